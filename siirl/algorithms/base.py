"""The contract of an advantage estimator, registered by name: what it sees of an episode, and what it says of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from siirl.config.schema import AlgorithmConfig
from siirl.registry import Registry


@dataclass(frozen=True)
class EpisodeReturns:
    """What an estimator sees of an episode of C chunks of T actions.

    Attributes:
        score: of the whole episode, e.g. SRPO's reward.
        group: the group of rollouts that it belongs to.
        rewards: of each action, float [C, T]; a reward of the whole episode stands at the last executed action.
        executed: actions executed of each chunk, the first ones, int [C] in [0, T].
        values: estimated from each observation, float [C + 1, V] with V = 1 (of the chunk that follows) or V = T (of each
            action in it); the last row is that of the final observation. None without a value head.
        truncated: whether the time limit ended the episode, so that the last row of ``values`` is what was still to come.
            Otherwise nothing was, and that row is not looked at.
    """

    score: float
    group: int
    rewards: np.ndarray
    executed: np.ndarray
    values: np.ndarray | None
    truncated: bool


@dataclass(frozen=True)
class Advantages:
    """What an estimator says of n episodes, one float32 array each; what was not executed has 0.

    Attributes:
        advantages: of shape [] (one for the whole episode), [C] (of each chunk) or [C, T] (of each action).
        returns: what the value head should have said, of the same shapes; None without values.
    """

    advantages: list[np.ndarray]
    returns: list[np.ndarray] | None


@dataclass(frozen=True)
class Estimator:
    """A registered estimator.

    Attributes:
        function: maps the episodes of a batch, at least one and of the same T and V, to their advantages.
        needs_values: it looks at ``EpisodeReturns.values``.
        scores_groups: an episode's baseline is taken from the others of its group, so a group of one teaches nothing new.
    """

    function: Callable[[Sequence[EpisodeReturns], AlgorithmConfig], Advantages]
    needs_values: bool
    scores_groups: bool


ADVANTAGES: Registry[Estimator] = Registry("algorithm.adv_estimator", "siirl.algorithms")


def scores_and_groups(episodes: Sequence[EpisodeReturns]) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64 [n] and groups int64 [n]."""
    return np.array([e.score for e in episodes], np.float64), np.array([e.group for e in episodes], np.int64)


def of_whole_episodes(advantages: np.ndarray) -> Advantages:
    """One advantage per episode, [n]."""
    return Advantages([np.asarray(advantage, np.float32) for advantage in advantages], None)
