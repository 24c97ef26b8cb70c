"""The clipped policy loss, as sums over tokens: micro-batches add up exactly to the mini-batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PolicyLoss:
    """Sums over the active tokens of a (micro-)batch, float32 scalars; only `loss_sum` carries a gradient.

    Divide by the number of active tokens for a mean per token.

    Attributes:
        loss_sum: the clipped objective, negated.
        clipped_sum: tokens whose gradient the clip stops.
        kl_sum: the estimator (r − 1) − log r of KL(old ‖ new) ("k3", http://joschu.net/blog/kl-approx.html), at least 0.
        ratio_deviation_sum: |r − 1|.
    """

    loss_sum: Tensor
    clipped_sum: Tensor
    kl_sum: Tensor
    ratio_deviation_sum: Tensor


@dataclass(frozen=True)
class BehaviorGap:
    """How far the policy before an update is from the one that acted.

    Attributes:
        weights: min(π_prox / π_behav, cap), in [0, cap], float32 [B, K]; 1 for inactive tokens.
        weight_sum: over active tokens, float32 scalar.
        kl_sum: the estimator (q − 1) − log q of KL(π_behav ‖ π_prox), with q = π_prox / π_behav before the cap, over active
            tokens, at least 0.
    """

    weights: Tensor
    weight_sum: Tensor
    kl_sum: Tensor


def episode_weight(tokens: int, all_tokens: float, episodes: int, mode: str) -> float:
    """What an episode's advantage is multiplied by, so that a mean over the mini-batch's tokens aggregates as asked.

    ``token-mean``: 1. ``seq-mean-token-mean``: a mean over episodes of each one's mean over its tokens. The clipped
    objective is proportional to the advantage, so both are the same mean with other advantages.

    Args:
        tokens: active tokens of the episode, at least 1.
        all_tokens: active tokens of the mini-batch.
        episodes: episodes of the mini-batch.
    """
    return 1.0 if mode == "token-mean" else all_tokens / (episodes * tokens)


def ppo_clip_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip_low: float, clip_high: float
) -> PolicyLoss:
    """PPO's clipped objective per token (Schulman et al. 2017, arXiv 1707.06347, eq. 7) with DAPO's asymmetric bounds.

    With r = π_new / π_old, a token's loss is −min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A) (DAPO, arXiv
    2503.14476, eq. 10). The clip is in force, and the gradient zero, where A > 0 and r > 1 + clip_high, or A < 0 and
    r < 1 − clip_low.

    Args:
        log_probs: under the weights being trained, with gradient, float32 [B, K].
        old_log_probs: under the policy before the update, float32 [B, K].
        advantages: one per row, float32 [B], or per token [B, K].
        mask: which tokens are active, bool [B, K]; the others contribute nothing, whatever they hold.
    """
    # Masked before exp(), so that an inactive token can overflow neither the sums nor the gradient.
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0)
    ratio = log_ratio.exp()
    advantage = torch.where(mask, advantages.view(len(advantages), -1), 0.0)
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    clipped = ((advantage > 0) & (ratio > 1 + clip_high)) | ((advantage < 0) & (ratio < 1 - clip_low))
    deviation = ratio.detach() - 1
    return PolicyLoss(
        loss_sum=-gain.sum(),
        clipped_sum=clipped.float().sum(),
        kl_sum=(deviation - log_ratio.detach()).sum(),
        ratio_deviation_sum=deviation.abs().sum(),
    )


def behavior_gap(proximal: Tensor, behavior: Tensor, mask: Tensor, cap: float) -> BehaviorGap:
    """What `decoupled_clip_loss` weighs tokens by; log-probs float32 [B, K], without gradient."""
    log_ratio = torch.where(mask, proximal - behavior, 0.0)
    weights = log_ratio.exp().clamp(max=cap)
    kl = (torch.expm1(log_ratio) - log_ratio).clamp(min=0)  # only rounding is below
    return BehaviorGap(weights, torch.where(mask, weights, 0.0).sum(), kl.sum())


def decoupled_clip_loss(
    log_probs: Tensor,
    proximal: Tensor,
    behavior: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    cap: float,
) -> tuple[PolicyLoss, BehaviorGap]:
    """The clipped objective where other weights acted than those that the update starts from.

    A token's loss is −w · min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A) with r = π_new / π_prox and
    w = min(π_prox / π_behav, cap): clipping holds the new policy near π_prox, the one before the update, and the importance
    weight w makes up for the draws being π_behav's, those of the weights that acted (Hilton, Cobbe, Schulman 2021, *Batch
    size-invariance for policy optimization*, arXiv 2110.00641; Fu et al. 2025, *AReaL*, arXiv
    2505.24298, does so for generation that lags behind). The cap bounds the variance of w (Ionides 2008, *Truncated
    Importance Sampling*). Where π_prox = π_behav, this is `ppo_clip_loss` to the bit.

    Args:
        log_probs: under the weights being trained, with gradient, float32 [B, K].
        proximal: under the weights before the update, float32 [B, K].
        behavior: under the weights that acted, float32 [B, K].
        advantages: one per row, float32 [B].
        mask: which tokens are active, bool [B, K]; the others contribute nothing, whatever they hold.
        cap: at least 1.

    Returns:
        The sums, in which r is that to π_prox, and what was weighed by.
    """
    gap = behavior_gap(proximal, behavior, mask, cap)
    weighted = (
        advantages[:, None] * gap.weights
    )  # as good as weighing the loss, which is proportional to A, since w ≥ 0
    return ppo_clip_loss(log_probs, proximal, weighted, mask, clip_low, clip_high), gap
