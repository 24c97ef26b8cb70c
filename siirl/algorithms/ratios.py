"""Probability ratios from log-probs, without overflow and without a trace of what is inactive."""

import torch
from torch import Tensor

LARGEST_LOG_RATIO = 60.0
"""exp(60) ≈ 1e26 leaves room in float32 for advantages and sums; ratios are bounded there, and have no gradient beyond."""


def masked_log_ratio(above: Tensor, below: Tensor, mask: Tensor) -> Tensor:
    """log(above / below) from log-probs [B, M], at most `LARGEST_LOG_RATIO`; 0 where inactive, whatever is there.

    Masked before anyone takes exp(): an inactive unit can overflow neither a sum nor a gradient.
    """
    return torch.where(mask, above - below, 0.0).clamp(max=LARGEST_LOG_RATIO)


def k3(log_ratio: Tensor) -> Tensor:
    """(r − 1) − log r ≥ 0: Schulman's estimator of KL(below ‖ above) from draws of ``below``
    (http://joschu.net/blog/kl-approx.html)."""
    bounded = log_ratio.clamp(max=LARGEST_LOG_RATIO)
    return (torch.expm1(bounded) - bounded).clamp(min=0)  # only rounding is below
