"""Drawing action bins so that a row's draw does not depend on the batch or the device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw(log_probs: Tensor, seeds: Sequence[int]) -> Tensor:
    """One bin per token, each independent of the others: [B, K, 256] → int64 [B, K]."""
    return invert(log_probs, uniforms(seeds, log_probs.shape[1]))


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Uniform numbers float64 [B, count] on the CPU; each row comes from its own generator."""
    rows = [torch.rand(count, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
    return torch.stack(rows)


def invert(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Where the distribution function passes ``uniform`` [...]: [..., 256] → int64 [...]."""
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    height = uniform.to(log_probs.device)[..., None] * cumulative[..., -1:]
    bins = torch.searchsorted(cumulative, height, right=True)[..., 0]
    return bins.clamp(max=log_probs.shape[-1] - 1)  # NaN logits would end up one behind the last bin
