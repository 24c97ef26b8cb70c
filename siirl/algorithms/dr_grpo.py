"""Dr. GRPO: GRPO without the division by the standard deviation."""

import numpy as np

from siirl.algorithms.base import ADVANTAGES, of_scores
from siirl.algorithms.grpo import grpo_advantage
from siirl.config.schema import AlgorithmConfig


def dr_grpo(scores: np.ndarray, groups: np.ndarray, config: AlgorithmConfig) -> np.ndarray:
    """A_i = s_i − mean of its group; a group of one has no baseline and keeps its raw score.

    Dividing by the standard deviation makes the groups that nearly always fail, or nearly always succeed, weigh most. The
    paper's other change, to divide no episode's loss by its own length, is ``actor.loss_agg_mode=token-mean``.

    Source: Liu et al. 2025, *Understanding R1-Zero-Like Training*, arXiv 2503.20783, section 3.
    """
    return grpo_advantage(scores, groups, normalize_by_std=False)


ADVANTAGES.register("dr_grpo")(of_scores(dr_grpo, scores_groups=True))
