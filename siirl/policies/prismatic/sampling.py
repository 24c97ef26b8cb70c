"""Drawing action bins so that a row's draw does not depend on the batch or the device, from all of them or the likeliest; and
the probabilities of those drawn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from siirl.policies.base import Evaluation


def evaluation(logits: Tensor, bins: Tensor, temperature: float, values: Tensor | None = None) -> Evaluation:
    """Log-probs of ``bins`` [B, K], and the entropy, of the tempered softmax over bins [B, K, 256]; ``values`` beside them."""
    log_probs = torch.log_softmax(logits / temperature, dim=-1)
    chosen = log_probs.gather(-1, bins[..., None])[..., 0]
    return Evaluation(log_probs=chosen, entropy=-(log_probs.exp() * log_probs).sum(dim=-1), values=values)


def truncate(log_probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Log-probs [..., 256], not renormalised, with −inf for bins that must not be drawn (see `siirl.policies.base.Sampling`).

    First only the ``top_k`` likeliest are left (−1: all), then of these, renormalised, the fewest likeliest whose
    probabilities sum to ``top_p`` at least (1: all). At least one is left. Of equally likely bins the lower comes first.
    """
    if top_k < 0 and top_p == 1:
        return log_probs
    ordered, order = log_probs.double().sort(dim=-1, descending=True, stable=True)
    if top_k > 0:
        ordered[..., top_k:] = -torch.inf
    if top_p < 1:
        probabilities = ordered.softmax(dim=-1)
        likelier = probabilities.cumsum(dim=-1) - probabilities
        ordered = ordered.masked_fill(likelier >= top_p, -torch.inf)
    return torch.empty_like(ordered).scatter_(-1, order, ordered)


def draw(log_probs: Tensor, seeds: Sequence[int]) -> Tensor:
    """One bin per token, each independent of the others: [B, K, 256] → int64 [B, K]."""
    return invert(log_probs, uniforms(seeds, log_probs.shape[1]))


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Uniform numbers float64 [B, count] on the CPU; each row comes from its own generator."""
    rows = [torch.rand(count, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
    return torch.stack(rows)


def invert(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Where the distribution function, scaled to end at 1, passes ``uniform`` [...] in [0, 1): [..., 256] → int64 [...].

    A bin of probability 0 is never chosen."""
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    total = cumulative[..., -1:].contiguous()
    bins = torch.searchsorted(cumulative, uniform.to(log_probs.device)[..., None] * total, right=True)
    last = torch.searchsorted(cumulative, total)  # the last one that has any; the product may round up to the total
    bins = torch.minimum(bins, last)[..., 0]
    return bins.clamp(max=log_probs.shape[-1] - 1)  # NaN logits would end up one behind the last bin
