"""The contract of a reward. One reward = one file in this package, registered by name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from siirl.registry import Registry


@dataclass(frozen=True)
class RewardInputs:
    """What a reward may look at, for a batch of n episodes.

    Attributes:
        success: bool [n].
        env: sum of the simulator's rewards, float [n].
        task: int [n], equal for episodes of one task.
        embeddings: float32 [n, E], or None for a reward that does not need them.
    """

    success: np.ndarray
    env: np.ndarray
    task: np.ndarray
    embeddings: np.ndarray | None


@dataclass(frozen=True)
class Reward:
    """A registered reward.

    Attributes:
        function: `RewardInputs` → float [n].
        needs_embedding: it looks at embeddings.
        final: it judges the episode as a whole, so that nothing is still to come where the time limit ended one.
        per_action: it is the sum of the simulator's rewards, so that an estimator may look at each of them.
    """

    function: Callable[[RewardInputs], np.ndarray]
    needs_embedding: bool = False
    final: bool = False
    per_action: bool = False


REWARDS: Registry[Reward] = Registry("algorithm.reward", "siirl.rewards")
