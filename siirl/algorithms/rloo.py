"""RLOO: an episode's score beside the mean of the others of its group."""

from collections.abc import Sequence

import numpy as np

from siirl.algorithms.base import (
    ADVANTAGES,
    Advantages,
    EpisodeReturns,
    Estimator,
    of_whole_episodes,
    scores_and_groups,
)
from siirl.algorithms.statistics import group_means
from siirl.config.schema import AlgorithmConfig


def rloo_advantage(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Leave-one-out baseline: A_i = s_i − (1 / (n − 1)) Σ_{j≠i} s_j over the n episodes of its group.

    The baseline does not depend on the episode itself, so the gradient is unbiased. A group of one has no baseline and
    keeps its raw score.

    Source: Ahmadian et al. 2024, *Back to Basics*, arXiv 2402.14740, equation 8 (Kool et al. 2019).

    Args:
        scores: one per episode, float64 [n].
        groups: the group that each episode belongs to, int [n]; members need not be adjacent.

    Returns:
        float64 [n].
    """
    mean, size = group_means(scores, groups)
    # s − (n·mean − s) / (n − 1), without its cancellation
    return np.where(size == 1, scores, (scores - mean) * size / np.maximum(size - 1, 1))


def rloo(episodes: Sequence[EpisodeReturns], config: AlgorithmConfig) -> Advantages:
    """`rloo_advantage` of the episodes' scores."""
    return of_whole_episodes(rloo_advantage(*scores_and_groups(episodes)))


ADVANTAGES.register("rloo")(Estimator(rloo, needs_values=False, scores_groups=True))
