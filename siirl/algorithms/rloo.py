"""RLOO: an episode's score beside the mean of the others of its group."""

import numpy as np

from siirl.algorithms.base import ADVANTAGES, of_scores
from siirl.algorithms.statistics import group_means
from siirl.config.schema import AlgorithmConfig


def rloo(scores: np.ndarray, groups: np.ndarray, config: AlgorithmConfig) -> np.ndarray:
    """Leave-one-out baseline: A_i = s_i − (1 / (n − 1)) Σ_{j≠i} s_j over the n episodes of its group.

    The baseline does not depend on the episode itself, so the gradient is unbiased. A group of one has no baseline and
    keeps its raw score.

    Source: Ahmadian et al. 2024, *Back to Basics*, arXiv 2402.14740, the RLOO estimator (of Kool et al. 2019).
    """
    mean, size = group_means(scores, groups)
    # the same as above, rearranged
    return np.where(size == 1, scores, (scores - mean) * size / np.maximum(size - 1, 1))


ADVANTAGES.register("rloo")(of_scores(rloo, scores_groups=True))
