"""The penalty on the divergence from a frozen reference policy."""

from collections.abc import Callable

import torch
from torch import Tensor

from siirl.algorithms.losses import weighted_sum
from siirl.algorithms.ratios import k3

ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda log_r: -log_r,
    "k2": lambda log_r: log_r.square() / 2,
    "k3": k3,
}
"""Of KL(policy ‖ reference) from draws of the policy, with r = reference / policy probability."""


def kl_penalty(
    log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor, kind: str, weights: Tensor | None = None
) -> Tensor:
    """The sum over active units of an estimate of KL(policy ‖ reference), with gradient.

    As numbers, k1 = −log r and k3 = r − 1 − log r have the divergence as their mean, and k2 = (log r)² / 2 nearly; k3 and k2 are
    at least 0. As losses on draws of the policy they differ:

    - k2 has the divergence's own gradient, since its derivative is (−log r) ∇log π;
    - k3 has in the mean that of the divergence the other way, KL(reference ‖ policy): its derivative is (1 − r) ∇log π;
    - k1 has in the mean no gradient at all: its derivative is ∇log π. As a loss it adds noise alone.

    Near the reference, k2's and k3's gradients agree. All this holds for one unit's own draw; how an action changes
    what comes later is left out.

    Source: http://joschu.net/blog/kl-approx.html; gradients: Tang and Munos 2025, arXiv 2506.09477.

    Args:
        log_probs: of the policy, with gradient, float [B, M].
        ref_log_probs: of the reference, [B, M].
        mask: which units are active, bool [B, M]; the others contribute nothing, whatever they hold.
        kind: ``k1``, ``k2`` or ``k3``.
        weights: what each row counts, [B]; None: 1.
    """
    estimate = ESTIMATORS[kind](torch.where(mask, ref_log_probs - log_probs, 0.0))
    return weighted_sum(estimate, weights)
