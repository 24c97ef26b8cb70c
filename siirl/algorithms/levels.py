"""What has a probability ratio of its own in the loss: a token, an action or a chunk.

The units of K = T·D tokens (T actions of D tokens) are the M = K tokens, M = T actions or M = 1 chunk. All losses
take [B, M] with a mask [B, M], whatever M is.
"""

import torch
from torch import Tensor


def level_mask(mask: Tensor, level: str, action_dim: int) -> Tensor:
    """Which units are active: those with an active token. bool [B, K] → bool [B, M]."""
    return _by_unit(mask, level, action_dim).any(-1)


def at_level(x: Tensor, mask: Tensor, level: str, action_dim: int) -> tuple[Tensor, Tensor]:
    """Add the tokens of each unit up, so that log-probs of tokens become those of units. Entropies likewise.

    A chunk's log-prob is exactly the sum of its tokens', also where they are sampled one after the other: each is given those
    before it. The sum of entropies is the unit's entropy where tokens are independent, and has it as its mean otherwise.

    Args:
        x: per token, float [B, K].
        mask: which tokens are active, bool [B, K]; the others add 0, whatever they hold.
        level: ``token_level``, ``action_level`` or ``chunk_level``.
        action_dim: D, tokens per action.

    Returns:
        Float [B, M] and which units are active, bool [B, M]. With ``token_level``, both as they were given.

    Raises:
        ValueError: the tokens are no whole number of actions.
    """
    if level == "token_level":
        return x, mask
    return _by_unit(torch.where(mask, x, 0.0), level, action_dim).sum(-1), level_mask(mask, level, action_dim)


def to_units(x: Tensor, units: int) -> Tensor:
    """Give each unit what belongs to it, its action or its chunk: [B] or [B, A] → [B, units].

    Raises:
        ValueError: a unit would have several, e.g. a chunk with an advantage for each action.
    """
    rows = x.reshape(len(x), -1)
    if units % rows.shape[1]:
        raise ValueError(
            f"{rows.shape[1]} advantages per chunk cannot be given to {units} probability ratios; with "
            "algorithm.reward_type=action_level, set algorithm.logprob_type=action_level or token_level"
        )
    return rows.repeat_interleave(units // rows.shape[1], dim=1)


def _by_unit(x: Tensor, level: str, action_dim: int) -> Tensor:
    """[B, K] → [B, M, tokens per unit]."""
    tokens = x.shape[1]
    if tokens % action_dim:
        raise ValueError(
            f"{tokens} tokens are no whole number of actions of {action_dim} tokens; only "
            "algorithm.logprob_type=token_level is possible"
        )
    size = {"token_level": 1, "action_level": action_dim, "chunk_level": tokens}[level]
    return x.reshape(len(x), tokens // size, size)
