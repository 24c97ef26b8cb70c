"""The value head's loss, and how much of the returns it explains; both as sums, so that micro-batches and ranks add up."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

NO_VARIANCE = 1e-12
"""Returns whose variance is below this part of their mean square differ by rounding alone."""


@dataclass(frozen=True)
class ValueLoss:
    """Sums over the active units of a (micro-)batch; only `loss_sum` carries a gradient.

    Attributes:
        loss_sum: of the larger of both Huber errors.
        clipped_sum: units whose gradient the clip stops.
    """

    loss_sum: Tensor
    clipped_sum: Tensor


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None, huber_delta: float
) -> ValueLoss:
    """max(h(V − R), h(V_old + clip(V − V_old, ±clip) − R)) per unit, with Huber's h(e) = e² / 2 up to |e| = δ and δ (|e| − δ / 2)
    beyond.

    The clip is in force, and the gradient zero, where V has moved by more than ``clip`` from V_old, towards R or past it,
    and the bounded value is further from R.

    Source: the clip is from the code of Schulman et al. 2017, arXiv 1707.06347 (OpenAI baselines, ppo2), where h is e² / 2;
    Huber 1964.

    Args:
        values: under the weights being trained, with gradient, float [B, V].
        old_values: those that the rollout recorded, [B, V].
        returns: what should have been estimated, [B, V].
        mask: which units are active, bool [B, V]; the others contribute nothing, whatever they hold.
        clip: None for none.
        huber_delta: δ > 0.
    """
    value, old, target = (torch.where(mask, x, 0.0) for x in (values, old_values, returns))
    error = huber_loss(value, target, reduction="none", delta=huber_delta)
    if clip is None:
        return ValueLoss(error.sum(), torch.zeros_like(error.detach().sum()))
    moved = value - old
    bounded_error = huber_loss(old + moved.clamp(-clip, clip), target, reduction="none", delta=huber_delta)
    clipped = (moved.abs() > clip) & (bounded_error > error)
    return ValueLoss(torch.where(clipped, bounded_error, error).sum(), clipped.sum().to(error.dtype))


@torch.no_grad()
def explained_variance_sums(returns: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """n, Σr, Σr², Σe and Σe² over active units with e = r − v, float64 [5]; add them up over micro-batches and ranks."""
    r, v = (torch.where(mask, x, 0.0).double() for x in (returns, values))
    e = r - v
    return torch.stack([mask.sum().double(), r.sum(), r.square().sum(), e.sum(), e.square().sum()])


def explained_variance(sums: Tensor) -> float:
    """1 − Var(r − v) / Var(r), at most 1; 0 is what a constant explains, and a negative number is worse than that.

    Returns that are all equal have no variance to explain: 0.

    Args:
        sums: of `explained_variance_sums`.
    """
    n, r, r_squared, e, e_squared = sums.tolist()
    if n == 0 or (variance := r_squared / n - (r / n) ** 2) <= NO_VARIANCE * r_squared / n:
        return 0.0
    return 1 - max(e_squared / n - (e / n) ** 2, 0.0) / variance
