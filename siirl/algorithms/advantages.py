"""Advantage estimators: pure functions on tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from siirl.algorithms.base import ADVANTAGES
from siirl.config.schema import AlgorithmConfig


def grpo_advantage(
    scores: Tensor | Sequence[float],
    group_ids: Tensor | Sequence[int],
    normalize_by_std: bool = True,
) -> Tensor:
    """Group-relative advantage: A_i = (s_i − mean of its group) / (std of its group + 1e-6), with the unbiased std.

    A group of one has no baseline and keeps its raw score; a group of equal scores has advantage 0.

    Source: Shao et al., DeepSeekMath, arXiv:2402.03300, equation in section 4.1.2 (outcome supervision); without the
    division: Liu et al., Understanding R1-Zero-Like Training, arXiv:2503.20783.

    Args:
        scores: one score per episode, [n].
        group_ids: the group that each episode belongs to, integers [n]; members need not be adjacent.
        normalize_by_std: divide by the group's standard deviation.

    Returns:
        float32 [n], on the device of ``scores``.

    Raises:
        ValueError: the two arguments differ in length.
    """
    score = torch.as_tensor(scores).double()
    ids = torch.as_tensor(group_ids, device=score.device)
    if score.shape != ids.shape or score.ndim != 1:
        raise ValueError(f"scores and group_ids must both be [n], but they are {[*score.shape]} and {[*ids.shape]}")
    _, group, size = torch.unique(ids, return_inverse=True, return_counts=True)
    mean = torch.zeros_like(size, dtype=score.dtype).index_add_(0, group, score) / size
    centred = score - mean[group]
    if normalize_by_std:
        squares = torch.zeros_like(mean).index_add_(0, group, centred**2)
        std = (squares / (size - 1).clamp(min=1)).sqrt()
        centred = centred / (std[group] + 1e-6)
    return torch.where(size[group] == 1, score, centred).float()


@ADVANTAGES.register("grpo")
def grpo(scores: np.ndarray, group_ids: np.ndarray, config: AlgorithmConfig) -> np.ndarray:
    """`grpo_advantage` as the config asks for it."""
    return grpo_advantage(torch.as_tensor(scores), torch.as_tensor(group_ids), config.norm_adv_by_std_in_grpo).numpy()
