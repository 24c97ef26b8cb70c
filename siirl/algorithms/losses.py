"""The clipped policy loss, as sums over units (tokens, actions or chunks): micro-batches add up exactly to the mini-batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from siirl.algorithms.levels import to_units
from siirl.algorithms.ratios import k3, masked_log_ratio


@dataclass(frozen=True)
class PolicyLoss:
    """Sums over the active units of a (micro-)batch, scalars; only `loss_sum` carries a gradient.

    Divide by the number of active units for a mean per unit.

    Attributes:
        loss_sum: the clipped objective, negated.
        clipped_sum: units whose gradient the clip stops.
        dual_clipped_sum: other units, those whose gradient the bound of the dual clip stops.
        kl_sum: the estimator (r − 1) − log r of KL(old ‖ new) ("k3", http://joschu.net/blog/kl-approx.html), at least 0.
        ratio_deviation_sum: |r − 1|.
    """

    loss_sum: Tensor
    clipped_sum: Tensor
    dual_clipped_sum: Tensor
    kl_sum: Tensor
    ratio_deviation_sum: Tensor


@dataclass(frozen=True)
class BehaviorGap:
    """How far the policy before an update is from the one that acted.

    Attributes:
        weights: min(π_prox / π_behav, cap), in [0, cap], float [B, M]; 1 for inactive units.
        weight_sum: over active units, a scalar.
        kl_sum: the estimator (q − 1) − log q of KL(π_behav ‖ π_prox), with q = π_prox / π_behav before the cap, over active
            units, at least 0.
    """

    weights: Tensor
    weight_sum: Tensor
    kl_sum: Tensor


def episode_weight(units: int, all_units: float, episodes: int, mode: str) -> float:
    """What an episode's advantage is multiplied by, so that a mean over the mini-batch's units aggregates as asked.

    ``token-mean``: 1. ``seq-mean-token-mean``: a mean over episodes of each one's mean over its units. The clipped
    objective is proportional to the advantage, so both are the same mean with other advantages. `kl_penalty` and
    `entropy_bonus` take the same number as their ``weights``.

    Args:
        units: active units of the episode (tokens, actions or chunks, as ``algorithm.logprob_type`` says), at least 1.
        all_units: active units of the mini-batch.
        episodes: episodes of the mini-batch.
    """
    return 1.0 if mode == "token-mean" else all_units / (episodes * units)


def weighted_sum(x: Tensor, weights: Tensor | None) -> Tensor:
    """Σ over [B, M], each row times its weight [B]; None: 1."""
    return x.sum() if weights is None else (x.sum(1) * weights).sum()


def ppo_clip_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    clip_c: float | None = None,
) -> PolicyLoss:
    """PPO's clipped objective per unit (Schulman et al. 2017, arXiv 1707.06347, eq. 7) with DAPO's asymmetric bounds.

    With r = π_new / π_old, a unit's loss is −min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A) (DAPO, arXiv
    2503.14476, eq. 10). The clip is in force, and the gradient zero, where A > 0 and r > 1 + clip_high, or A < 0 and
    r < 1 − clip_low.

    The dual clip (Ye et al. 2020, arXiv 1912.09729, eq. 5) bounds the objective of A < 0, which is not bounded otherwise, by
    c·A from below: it is in force, and the gradient zero, where A < 0 and r > c.

    Args:
        log_probs: of the units under the weights being trained, with gradient, float [B, M].
        old_log_probs: under the policy before the update, [B, M].
        advantages: one per row, [B], or for each of A parts of a row that M is a multiple of, [B, A].
        mask: which units are active, bool [B, M]; the others contribute nothing, whatever they hold.
        clip_low, clip_high: how far r may fall below 1 and rise above it.
        clip_c: c > 1, or None for no dual clip.
    """
    log_ratio = masked_log_ratio(log_probs, old_log_probs, mask)
    ratio = log_ratio.exp()
    advantage = torch.where(mask, to_units(advantages, mask.shape[1]), 0.0)
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    clipped = ((advantage > 0) & (ratio > 1 + clip_high)) | ((advantage < 0) & (ratio < 1 - clip_low))
    dual_clipped = torch.zeros_like(clipped)
    if clip_c is not None:
        dual_clipped = (advantage < 0) & (ratio > clip_c)
        gain = torch.where(dual_clipped, clip_c * advantage, gain)
    return PolicyLoss(
        loss_sum=-gain.sum(),
        clipped_sum=clipped.sum().to(ratio.dtype),
        dual_clipped_sum=dual_clipped.sum().to(ratio.dtype),
        kl_sum=k3(log_ratio.detach()).sum(),
        ratio_deviation_sum=torch.expm1(log_ratio.detach()).abs().sum(),
    )


def behavior_gap(proximal: Tensor, behavior: Tensor, mask: Tensor, cap: float) -> BehaviorGap:
    """What `decoupled_clip_loss` weighs units by; log-probs float [B, M], without gradient."""
    log_ratio = masked_log_ratio(proximal, behavior, mask)
    weights = log_ratio.exp().clamp(max=cap)
    return BehaviorGap(weights, torch.where(mask, weights, 0.0).sum(), k3(log_ratio).sum())


def decoupled_clip_loss(
    log_probs: Tensor,
    proximal: Tensor,
    behavior: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    cap: float,
    clip_c: float | None = None,
) -> tuple[PolicyLoss, BehaviorGap]:
    """The clipped objective where other weights acted than those that the update starts from.

    A unit's loss is −w · min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A) with r = π_new / π_prox and
    w = min(π_prox / π_behav, cap): clipping holds the new policy near π_prox, the one before the update, and the importance
    weight w makes up for the draws being π_behav's, those of the weights that acted (Hilton, Cobbe, Schulman 2021, *Batch
    size-invariance for policy optimization*, arXiv 2110.00641; Fu et al. 2025, *AReaL*, arXiv
    2505.24298, does so for generation that lags behind). The cap bounds the variance of w (Ionides 2008, *Truncated
    Importance Sampling*). Where π_prox = π_behav, this is `ppo_clip_loss` to the bit.

    Args:
        log_probs: of the units under the weights being trained, with gradient, float [B, M].
        proximal: under the weights before the update, [B, M].
        behavior: under the weights that acted, [B, M].
        advantages, mask, clip_low, clip_high, clip_c: as in `ppo_clip_loss`.
        cap: at least 1.

    Returns:
        The sums, in which r is that to π_prox, and what was weighed by.
    """
    gap = behavior_gap(proximal, behavior, mask, cap)
    # as good as weighing the loss, which is proportional to A, since w ≥ 0
    weighted = to_units(advantages, mask.shape[1]) * gap.weights
    return ppo_clip_loss(log_probs, proximal, weighted, mask, clip_low, clip_high, clip_c), gap
