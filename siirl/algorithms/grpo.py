"""GRPO: an episode's score beside those of its group."""

from collections.abc import Sequence

import numpy as np

from siirl.algorithms.base import ADVANTAGES, of_scores
from siirl.algorithms.statistics import EPSILON, group_means
from siirl.config.schema import AlgorithmConfig


def grpo_advantage(
    scores: np.ndarray | Sequence[float], groups: np.ndarray | Sequence[int], normalize_by_std: bool = True
) -> np.ndarray:
    """Group-relative advantage: A_i = (s_i − mean of its group) / (std of its group + 1e-6), with the unbiased std.

    A group of one has no baseline and keeps its raw score; a group of equal scores has advantage 0.

    Source: Shao et al. 2024, *DeepSeekMath*, arXiv 2402.03300, section 4.1.2 (outcome supervision).

    Args:
        scores: one per episode, [n].
        groups: the group that each episode belongs to, integers [n]; members need not be adjacent.
        normalize_by_std: divide by the group's standard deviation.

    Returns:
        float64 [n].

    Raises:
        ValueError: the two arguments differ in length.
    """
    score, group = np.asarray(scores, np.float64), np.asarray(groups)
    if score.shape != group.shape or score.ndim != 1:
        raise ValueError(f"scores and groups must both be [n], but they are {[*score.shape]} and {[*group.shape]}")
    mean, size = group_means(score, group)
    centred = score - mean
    if normalize_by_std:
        variance = group_means(centred**2, group)[0] * size / np.maximum(size - 1, 1)
        centred = centred / (np.sqrt(variance) + EPSILON)
    return np.where(size == 1, score, centred)


def grpo(scores: np.ndarray, groups: np.ndarray, config: AlgorithmConfig) -> np.ndarray:
    """`grpo_advantage` as the config asks for it."""
    return grpo_advantage(scores, groups, config.norm_adv_by_std_in_grpo)


ADVANTAGES.register("grpo")(of_scores(grpo, scores_groups=True))
