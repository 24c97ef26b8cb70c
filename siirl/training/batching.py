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


def micro_batches(
    trajectories: Sequence[Trajectory],
    advantages: Sequence[float],
    spare: Trajectory,
    size: int,
    count: int,
    action_dim: int,
) -> Iterator[MicroBatch]:
    """Cut the trajectories' chunks, in order, into exactly ``count`` micro-batches of at most ``size`` rows.

    Ranks with fewer chunks are padded, because FSDP's collectives need the same number of forward passes everywhere.

    Args:
        trajectories: the episodes that this rank trains on.
        advantages: one per trajectory.
        spare: any trajectory; its first chunk, with no active token, fills the micro-batches beyond this rank's own.
    """
    rows = [(i, chunk) for i, trajectory in enumerate(trajectories) for chunk in range(len(trajectory.tokens))]
    assert len(rows) <= size * count, f"{len(rows)} chunks do not fit {count} micro-batches of {size}"
    for start in range(0, size * count, size):
        picked = rows[start : start + size]
        if picked:
            sources = [(trajectories[i], chunk) for i, chunk in picked]
            yield _gather(sources, [advantages[i] for i, _ in picked], action_dim)
        else:
            padding = _gather([(spare, 0)], [0.0], action_dim)
            padding.mask.zero_()
            yield padding


def _gather(sources: Sequence[tuple[Trajectory, int]], advantages: Sequence[float], action_dim: int) -> MicroBatch:
    tokens = np.stack([trajectory.tokens[chunk] for trajectory, chunk in sources])
    executed = np.array([trajectory.executed[chunk] for trajectory, chunk in sources])
    images = np.stack([trajectory.images[chunk] for trajectory, chunk in sources])
    states = np.stack([trajectory.states[chunk] for trajectory, chunk in sources])
    return MicroBatch(
        obs=stack_observations(images, states, [trajectory.summary.spec.instruction for trajectory, _ in sources]),
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        log_probs=torch.from_numpy(np.stack([trajectory.log_probs[chunk] for trajectory, chunk in sources])),
        advantages=torch.tensor(advantages, dtype=torch.float32),
        mask=torch.from_numpy(token_mask(executed, tokens.shape[1], action_dim)),
    )
