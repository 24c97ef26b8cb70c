"""REINFORCE++: an episode's score beside those of the whole batch."""

import numpy as np

from siirl.algorithms.base import ADVANTAGES, of_scores
from siirl.algorithms.statistics import whiten
from siirl.config.schema import AlgorithmConfig


def reinforce_plus_plus(scores: np.ndarray, groups: np.ndarray, config: AlgorithmConfig) -> np.ndarray:
    """A_i = (s_i − mean of the batch) / (std of the batch + 1e-6).

    In the paper the advantage of token t is the response's reward minus β Σ_{i≥t} KL_i, with a discount of 1, and all of a
    global batch are normalised together, not prompt by prompt. Here the KL penalty is part of the loss (`kl_penalty`), not
    of the reward, so every action of an episode has the same advantage: the episode's normalised score. No group is
    needed, and ``rollout.n`` may be 1.

    Mean and standard deviation are those over episodes. Taken over tokens, as the paper's indices have it, a failure
    would count several times as much as a success, because it lasts until the time limit.

    Source: Hu et al. 2025, *REINFORCE++*, arXiv 2501.03262, "global advantage normalization".
    """
    return whiten(scores)


ADVANTAGES.register("reinforce_plus_plus")(of_scores(reinforce_plus_plus, scores_groups=False))
