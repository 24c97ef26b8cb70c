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
        kl_sum: the estimator (r − 1) − log r of KL(old ‖ new) ("k3", http://joschu.net/blog/kl-approx.html).
        ratio_deviation_sum: |r − 1|.
        log_prob_gap_sum: |log r|.
    """

    loss_sum: Tensor
    clipped_sum: Tensor
    kl_sum: Tensor
    ratio_deviation_sum: Tensor
    log_prob_gap_sum: Tensor


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
        old_log_probs: under the behaviour policy, float32 [B, K].
        advantages: one per row, float32 [B].
        mask: which tokens are active, bool [B, K]; the others contribute nothing, whatever they hold.
    """
    # Masked before exp(), so that an inactive token can overflow neither the sums nor the gradient.
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0)
    ratio = log_ratio.exp()
    advantage = torch.where(mask, advantages[:, None], 0.0)
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    clipped = ((advantage > 0) & (ratio > 1 + clip_high)) | ((advantage < 0) & (ratio < 1 - clip_low))
    deviation = ratio.detach() - 1
    return PolicyLoss(
        loss_sum=-gain.sum(),
        clipped_sum=clipped.float().sum(),
        kl_sum=(deviation - log_ratio.detach()).sum(),
        ratio_deviation_sum=deviation.abs().sum(),
        log_prob_gap_sum=log_ratio.detach().abs().sum(),
    )
