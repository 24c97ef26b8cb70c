"""The entropy bonus."""

import torch
from torch import Tensor

from siirl.algorithms.losses import weighted_sum


def entropy_bonus(entropy: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """The sum of the entropies of active units, with gradient; a loss has it with a negative coefficient.

    Source: Mnih et al. 2016, arXiv 1602.01783; Schulman et al. 2017, arXiv 1707.06347, equation 9.

    Args:
        entropy: of each unit (see `siirl.algorithms.levels.at_level`), nats, float [B, M].
        mask: which units are active, bool [B, M]; the others contribute nothing, whatever they hold.
        weights: what each row counts, [B]; None: 1.
    """
    return weighted_sum(torch.where(mask, entropy, 0.0), weights)
