"""From episodes to what a rank trains on: mini-batches, their balance over the ranks, and micro-batches of chunks."""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from siirl.data.trajectory import Target, Trajectory
from siirl.envs.base import EnvObs
from siirl.policies.base import stack_observations

E = TypeVar("E")


@dataclass
class MicroBatch:
    """R chunks, each a row, of any episodes.

    Attributes:
        obs: what the policy saw before each chunk, R observations.
        tokens: what the policy sampled, [R, K]: action bins int64, or continuous actions float32.
        behavior: their log-probabilities under the weights that acted, float32 [R, K].
        proximal: under the weights before the update, float32 [R, K]; the same numbers where those acted.
        fresh: whether the weights before the update acted, bool [R].
        advantages: of each chunk, float32 [R, 1], or of each action, [R, T].
        weights: what each chunk counts in the policy's loss, float32 [R].
        mask: tokens of executed actions, bool [R, K]; all false in a micro-batch that only pads.
        values, returns: as in `Trajectory` and `Target`, float32 [R, V]; None where no values are trained.
    """

    obs: EnvObs
    tokens: Tensor
    behavior: Tensor
    proximal: Tensor
    fresh: Tensor
    advantages: Tensor
    weights: Tensor
    mask: Tensor
    values: Tensor | None
    returns: Tensor | None


@dataclass
class Share:
    """A rank's part of a mini-batch.

    Attributes:
        trajectories: the episodes that this rank trains on; none when there are fewer episodes than ranks.
        targets: one per trajectory.
        weights: what each trajectory counts in the policy's loss.
        rows: which chunks of the whole batch these trajectories have, in order, int.
        proximal: of these chunks, as `Batch.proximal`, float32 [len(rows), K].
        version: as `Batch.version`.
        episodes: episodes of the whole mini-batch, on all ranks.
        spare: any trajectory, whose first chunk fills the micro-batches beyond this rank's own.
        micro_batches: how many every rank runs, since FSDP's collectives need equally many forward passes everywhere.
    """

    trajectories: Sequence[Trajectory]
    targets: Sequence[Target]
    weights: Sequence[float]
    rows: np.ndarray
    proximal: np.ndarray | None
    version: int | None
    episodes: int
    spare: Trajectory
    micro_batches: int


@dataclass(frozen=True)
class Batch(Generic[E]):
    """What an update trains on.

    Attributes:
        episodes: n handles of trajectories, group by group.
        chunks: policy forwards of each episode, at least 1.
        targets: one per episode.
        fetch: brings the trajectories of some handles here.
        proximal: log-probs under the weights before the update, of all chunks of all episodes in order, float32
            [sum(chunks), K]; None where those acted, so that the trajectories have them.
        version: that of the weights before the update; None where they acted in every episode.
    """

    episodes: Sequence[E]
    chunks: Sequence[int]
    targets: Sequence[Target]
    fetch: Callable[[Sequence[E]], list[Trajectory]]
    proximal: np.ndarray | None = None
    version: int | None = None

    def share(self, picked: Sequence[int], rank: int, ranks: int, size: int) -> Share:
        """Balance the episodes of a mini-batch over the ranks by their chunks, and fetch this rank's.

        Args:
            picked: indices of episodes.
            size: chunks of a micro-batch.
        """
        loads = [self.chunks[i] for i in picked]
        shares = balance(loads, ranks)
        most = max(sum(loads[i] for i in share) for share in shares)
        own = [picked[i] for i in shares[rank]]
        shortest = min(picked, key=lambda i: self.chunks[i])
        trajectories = self.fetch([self.episodes[i] for i in own or [shortest]])
        starts = np.cumsum([0, *self.chunks])
        rows = np.array([row for i in own for row in range(starts[i], starts[i + 1])], dtype=int)
        return Share(
            trajectories=trajectories if own else [],
            targets=[self.targets[i] for i in own],
            weights=[1.0] * len(own),
            rows=rows,
            proximal=None if self.proximal is None else self.proximal[rows],
            version=self.version,
            episodes=len(picked),
            spare=trajectories[0],
            micro_batches=math.ceil(most / size),
        )


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


class Row(NamedTuple):
    """A chunk of a trajectory, and what it is trained with; see `MicroBatch`."""

    trajectory: Trajectory
    chunk: int
    target: Target
    weight: float
    proximal: np.ndarray
    fresh: bool


def micro_batches(share: Share, size: int, action_dim: int) -> Iterator[MicroBatch]:
    """Cut a share's chunks, in order, into micro-batches of at most ``size`` rows, then pad with inactive ones."""
    rows = list(_rows(share))
    assert len(rows) <= size * share.micro_batches, f"{len(rows)} chunks, {share.micro_batches} × {size} places"
    for start in range(0, size * share.micro_batches, size):
        if picked := rows[start : start + size]:
            yield _gather(picked, action_dim)
        else:
            spare = share.spare
            nothing = Target(np.zeros((), np.float32), None if spare.values is None else np.zeros_like(spare.values))
            padding = _gather([Row(spare, 0, nothing, 0.0, spare.log_probs[0], False)], action_dim)
            padding.mask.zero_()
            yield padding


def _rows(share: Share) -> Iterator[Row]:
    known = None if share.proximal is None else iter(share.proximal)
    for trajectory, target, weight in zip(share.trajectories, share.targets, share.weights, strict=True):
        fresh = share.version in (None, trajectory.summary.policy_version)
        for chunk in range(len(trajectory.tokens)):
            proximal = trajectory.log_probs[chunk] if known is None else next(known)
            yield Row(trajectory, chunk, target, weight, proximal, fresh)


def _gather(rows: Sequence[Row], action_dim: int) -> MicroBatch:
    """Rows as one batch."""
    tokens = np.stack([row.trajectory.tokens[row.chunk] for row in rows])
    executed = np.array([row.trajectory.executed[row.chunk] for row in rows])
    values, returns = _values(rows)
    return MicroBatch(
        obs=stack_observations(
            np.stack([row.trajectory.images[row.chunk] for row in rows]),
            np.stack([row.trajectory.states[row.chunk] for row in rows]),
            [row.trajectory.summary.spec.instruction for row in rows],
        ),
        tokens=torch.from_numpy(tokens.astype(np.int64) if np.issubdtype(tokens.dtype, np.integer) else tokens),
        behavior=torch.from_numpy(np.stack([row.trajectory.log_probs[row.chunk] for row in rows])),
        proximal=torch.from_numpy(np.stack([row.proximal for row in rows])),
        fresh=torch.tensor([row.fresh for row in rows]),
        advantages=_of_chunks([(row.target.advantage, row.chunk) for row in rows]),
        weights=torch.tensor([row.weight for row in rows], dtype=torch.float32),
        mask=torch.from_numpy(token_mask(executed, tokens.shape[1], action_dim)),
        values=values,
        returns=returns,
    )


def _values(rows: Sequence[Row]) -> tuple[Tensor | None, Tensor | None]:
    """Values of the rollout and returns, float32 [R, V] each."""
    values = [(row.trajectory.values, row.chunk) for row in rows if row.trajectory.values is not None]
    returns = [(row.target.returns, row.chunk) for row in rows if row.target.returns is not None]
    assert len(values) in (0, len(rows)), "all episodes of a batch have values, or none"
    assert len(returns) in (0, len(rows)), "all episodes of a batch have returns, or none"
    return (_of_chunks(values), _of_chunks(returns)) if values and returns else (None, None)


def _of_chunks(numbers: Sequence[tuple[np.ndarray, int]]) -> Tensor:
    """What each chunk has of the numbers of its episode, [] (all the same), [C] or [C, A]: float32 [R, 1] or [R, A]."""
    picked = [np.atleast_1d(episode[chunk] if episode.ndim else episode) for episode, chunk in numbers]
    return torch.from_numpy(np.stack(picked).astype(np.float32))
