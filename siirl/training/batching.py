"""From episodes to what a rank trains on: mini-batches, their balance over the ranks, and micro-batches of chunks."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siirl.data.trajectory import Trajectory
from siirl.envs.base import EnvObs
from siirl.policies.base import stack_observations


@dataclass
class MicroBatch:
    """R chunks, each a row, of any episodes.

    Attributes:
        obs: what the policy saw before each chunk, R observations.
        tokens: sampled action bins, int64 [R, K].
        log_probs: their log-probabilities under the behaviour policy, float32 [R, K].
        advantages: float32 [R].
        mask: tokens of executed actions, bool [R, K]; all false in a micro-batch that only pads.
    """

    obs: EnvObs
    tokens: Tensor
    log_probs: Tensor
    advantages: Tensor
    mask: Tensor


@dataclass
class Share:
    """A rank's part of a mini-batch.

    Attributes:
        trajectories: the episodes that this rank trains on; none when there are fewer episodes than ranks.
        advantages: one per trajectory.
        episodes: episodes of the whole mini-batch, on all ranks.
        spare: any trajectory, whose first chunk fills the micro-batches beyond this rank's own.
        micro_batches: how many every rank runs, since FSDP's collectives need equally many forward passes everywhere.
    """

    trajectories: Sequence[Trajectory]
    advantages: Sequence[float]
    episodes: int
    spare: Trajectory
    micro_batches: int


def mini_batches(episodes: int, size: int, shuffle_seed: Sequence[int] | None) -> list[list[int]]:
    """Split ``range(episodes)`` into runs of ``size`` (the last may be shorter), shuffled unless the seed is None."""
    order = np.arange(episodes)
    if shuffle_seed is not None:
        order = np.random.default_rng(shuffle_seed).permutation(order)
    return [order[start : start + size].tolist() for start in range(0, episodes, size)]


def balance(loads: Sequence[int], ranks: int) -> list[list[int]]:
    """Give each item to a rank so that the ranks' summed loads are about equal: heaviest first, to the lightest rank.

    The largest sum is at most 4/3 − 1/(3·ranks) of the best possible one (Graham 1969, list scheduling by longest
    processing time).

    Returns:
        One ascending list of item indices per rank; some are empty when there are fewer items than ranks.
    """
    lightest = [(0, rank) for rank in range(ranks)]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for item in sorted(range(len(loads)), key=lambda i: (-loads[i], i)):
        load, rank = heapq.heappop(lightest)
        shares[rank].append(item)
        heapq.heappush(lightest, (load + loads[item], rank))
    return [sorted(share) for share in shares]


def token_mask(executed: np.ndarray, tokens: int, action_dim: int) -> np.ndarray:
    """Which tokens stand for executed actions, bool [C, K]: token t belongs to environment step t // ``action_dim``.

    Args:
        executed: environment steps executed of each chunk, int [C].
        tokens: K, tokens per chunk.
        action_dim: tokens per environment step.
    """
    step: np.ndarray = np.arange(tokens) // action_dim
    return step[None, :] < executed[:, None]


def micro_batches(share: Share, size: int, action_dim: int) -> Iterator[MicroBatch]:
    """Cut a share's chunks, in order, into micro-batches of at most ``size`` rows, then pad with inactive ones."""
    rows = [
        (trajectory, chunk, advantage)
        for trajectory, advantage in zip(share.trajectories, share.advantages, strict=True)
        for chunk in range(len(trajectory.tokens))
    ]
    assert len(rows) <= size * share.micro_batches, f"{len(rows)} chunks, {share.micro_batches} × {size} places"
    for start in range(0, size * share.micro_batches, size):
        if picked := rows[start : start + size]:
            yield _gather(picked, action_dim)
        else:
            padding = _gather([(share.spare, 0, 0.0)], action_dim)
            padding.mask.zero_()
            yield padding


def _gather(rows: Sequence[tuple[Trajectory, int, float]], action_dim: int) -> MicroBatch:
    """The chunks of (trajectory, chunk index, advantage) rows as one batch."""
    tokens = np.stack([t.tokens[chunk] for t, chunk, _ in rows])
    executed = np.array([t.executed[chunk] for t, chunk, _ in rows])
    return MicroBatch(
        obs=stack_observations(
            np.stack([t.images[chunk] for t, chunk, _ in rows]),
            np.stack([t.states[chunk] for t, chunk, _ in rows]),
            [t.summary.spec.instruction for t, _, _ in rows],
        ),
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        log_probs=torch.from_numpy(np.stack([t.log_probs[chunk] for t, chunk, _ in rows])),
        advantages=torch.tensor([advantage for _, _, advantage in rows], dtype=torch.float32),
        mask=torch.from_numpy(token_mask(executed, tokens.shape[1], action_dim)),
    )
