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
            Otherwise nothing was, and that row is looked at with ``bootstrap_type=always`` only.
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


def of_scores(
    function: Callable[[np.ndarray, np.ndarray, AlgorithmConfig], np.ndarray], scores_groups: bool
) -> Estimator:
    """The estimator that looks at nothing but the scores of whole episodes.

    Args:
        function: maps scores float64 [n], groups int64 [n] and the config to advantages [n].
        scores_groups: see `Estimator`.
    """

    def estimate(episodes: Sequence[EpisodeReturns], config: AlgorithmConfig) -> Advantages:
        scores = np.array([episode.score for episode in episodes], np.float64)
        groups = np.array([episode.group for episode in episodes], np.int64)
        return Advantages([np.asarray(a, np.float32) for a in function(scores, groups, config)], None)

    return Estimator(estimate, needs_values=False, scores_groups=scores_groups)
