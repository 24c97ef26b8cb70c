"""What hypothesis draws: batches of episodes for the estimators, batches of tokens for the losses."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from siirl.algorithms.base import EpisodeReturns

EXECUTED = ("all", "shorter at the end", "gaps", "nothing")


def _executed(kind: str, chunks: int, actions: int, rng: np.random.Generator) -> np.ndarray:
    executed = np.full(chunks, actions)
    if kind == "shorter at the end":
        executed[-1] = rng.integers(1, actions + 1)
    elif kind == "gaps":
        executed = rng.integers(0, actions + 1, chunks)
    elif kind == "nothing":
        executed[:] = 0
    return executed.astype(np.int16)


def _rewards(kind: str, chunks: int, actions: int, rng: np.random.Generator) -> np.ndarray:
    return {
        "dense": rng.normal(size=(chunks, actions)),
        "none": np.zeros((chunks, actions)),
        "equal": np.full((chunks, actions), 0.1),
        "large": 1e3 * rng.normal(size=(chunks, actions)),
    }[kind].astype(np.float32)


@st.composite
def episodes(draw: st.DrawFn, per_action: bool) -> list[EpisodeReturns]:
    """A batch; whatever no estimator may look at is NaN or infinite."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    actions = draw(st.integers(1, 4))
    outputs = actions if per_action else 1
    constant = draw(st.booleans())
    batch = []
    for _ in range(draw(st.integers(1, 6))):
        chunks = draw(st.integers(1, 6))
        executed = _executed(draw(st.sampled_from(EXECUTED)), chunks, actions, rng)
        rewards = _rewards(draw(st.sampled_from(("dense", "none", "equal", "large"))), chunks, actions, rng)
        values = np.full((chunks + 1, outputs), 0.5) if constant else rng.normal(size=(chunks + 1, outputs))
        truncated = draw(st.booleans())
        idle = np.arange(actions) >= executed[:, None]
        rewards[idle] = np.nan
        values[:-1][idle if per_action else executed == 0] = np.inf
        values[-1, 1:] = np.nan
        values[-1, 0] = values[-1, 0] if truncated else np.nan
        group, score = draw(st.integers(0, 2)), draw(st.sampled_from((0.0, 1.0, 0.1, rng.normal())))
        batch.append(EpisodeReturns(score, group, rewards, executed, values.astype(np.float32), truncated))
    return batch


@dataclass
class Tokens:
    """A batch of B rows of K = actions · action_dim tokens; what is inactive is NaN or infinite.

    Attributes:
        now, before, acted: log-probs [B, K].
        advantages: [B].
        mask: bool [B, K].
        action_dim: tokens per action.
    """

    now: Tensor
    before: Tensor
    acted: Tensor
    advantages: Tensor
    mask: Tensor
    action_dim: int

    def rows(self, start: int, stop: int) -> "Tokens":
        """Some of the rows."""
        parts = (x[start:stop] for x in (self.now, self.before, self.acted, self.advantages, self.mask))
        return Tokens(*parts, self.action_dim)


@st.composite
def tokens(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> Tokens:
    """See `Tokens`."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rows, actions, action_dim = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    spread = draw(st.sampled_from((0.0, 0.1, 0.5, 2.0)))
    shape = rows, actions * action_dim
    now = (-3 * torch.rand(shape, generator=generator)).to(dtype)
    before, acted = (now + spread * torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    advantages = torch.randn(rows, generator=generator).round(decimals=1).to(dtype)
    mask = torch.rand(shape, generator=generator) < draw(st.sampled_from((0.0, 0.3, 0.8, 1.1)))
    garbage = torch.tensor([math.nan, math.inf, -math.inf, 1e30], dtype=dtype)
    for x in (now, before, acted):
        x[~mask] = garbage[torch.randint(4, (int((~mask).sum()),), generator=generator)]
    return Tokens(now, before, acted, advantages, mask, action_dim)
