"""The node worker: hosts the roles of one slot in one process.

A plain class; `ray_workers.py` runs it as a Ray actor, `inline.py` in this process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siirl.config.acting import executed_actions
from siirl.config.schema import Config
from siirl.dag.graph import EpisodesFn, NodeOutput
from siirl.data.trajectory import Episode, EpisodeSpec, EpisodeSummary, Stored, Target, Trajectory
from siirl.embeddings.base import ENCODERS, encoder_name
from siirl.observe.timeline import Clock, Notebook, Recording
from siirl.observe.video.choice import Reel
from siirl.observe.video.recorder import Recorder
from siirl.policies.base import POLICIES, Policy, Sampling, ValueHeadSettings
from siirl.rewards.base import REWARDS
from siirl.roles.embedder import Embedder
from siirl.roles.queue import EpisodeSource
from siirl.roles.rollout import Rollout
from siirl.roles.slots import EnvPool
from siirl.roles.trainer import Trainer
from siirl.training.fsdp import Ranks
from siirl.training.weight_sync import WeightSync
from siirl.workers.seats import Seat


@dataclass(frozen=True)
class Store:
    """Where what a worker makes rests until another one needs it.

    Attributes:
        put: takes a value, and gives the handle that finds it.
        fetch: the values that some handles find.
    """

    put: Callable[[Any], Any]
    fetch: Callable[[Sequence[Any]], list[Any]]


class NodeWorker:
    """Hosts what its seat says of rollout, embedding and actor.

    The only rank of the actor and a rollout on its slot share one copy of the weights. Elsewhere a rollout has a copy of its
    own, which `sync` fills.

    Args:
        config: the run's config.
        seat: its roles and its number.
        device: torch device of this slot, as this process sees it.
        pool: the simulator slots that the rollout role drives; None without that role.
        store: where embeddings go, and trajectories are.
        ranks: the process groups that it has joined.
    """

    def __init__(
        self, config: Config, seat: Seat, device: str, pool: EnvPool | None, store: Store, ranks: Ranks
    ) -> None:
        torch.use_deterministic_algorithms(config.trainer.deterministic)
        # not torch's own default: Ray sets OMP_NUM_THREADS to the number of CPUs that the actor reserves
        cores = max(1, int(len(os.sched_getaffinity(0)) * seat.share))
        self._threads = config.trainer.cpu_threads or cores
        self._config, self._device, self._store = config, torch.device(device), store
        self._notebook = Notebook(f"slot {seat.slot.index}")
        self._reward = REWARDS.get(config.algorithm.reward)
        self._trainer: Trainer[Any] | None = None
        self._rollout: Rollout | None = None
        self._embedder: Embedder | None = None
        self._weight_sync: WeightSync | None = None
        self._recorder = Recorder()
        rollout = config.actor_rollout_ref.rollout
        shares_weights = {"actor", "rollout"} <= seat.roles and seat.actors == 1
        acting = None
        if "actor" in seat.roles:
            load_reference = self._load_reference if config.actor_rollout_ref.ref.path else None
            self._trainer = Trainer(self._load(), config, self._device, ranks, shares_weights, load_reference)
        if "rollout" in seat.roles:
            assert pool is not None
            acting = self.trainer.policy if shares_weights else self._load(acting_only=True)
            name = f"rollout {seat.slot.index}"
            how = rollout.pipeline_stage_num, config.trainer.deterministic, name, self._notebook
            self._rollout = Rollout(acting, pool, *how, executed_actions(config.actor_rollout_ref.embodied))
        if seat.rank is not None and not (shares_weights and seat.world == 1):
            trained = self._trainer.policy.model if self._trainer else None
            copy = None if acting is None or shares_weights else acting.model
            self._weight_sync = WeightSync(ranks, self._device, trained, copy)
        if "embedding" in seat.roles:
            embodied = config.actor_rollout_ref.embodied
            self._embedder = Embedder(ENCODERS.get(encoder_name(embodied)).load(embodied, self._device))

    def _load(self, acting_only: bool = False) -> Policy:
        torch.manual_seed(self._config.trainer.seed)  # new adapters are drawn alike everywhere
        section = self._config.actor_rollout_ref
        factory = POLICIES.get(section.embodied.embodied_type)
        head = ValueHeadSettings.of(self._config)
        return factory.load(section.model, section.embodied, self._device, acting_only, head)

    def _load_reference(self) -> Policy:
        """The frozen policy of the KL penalty."""
        section = self._config.actor_rollout_ref
        assert section.ref.path is not None
        model = replace(section.model, path=section.ref.path, lora_rank=0)
        factory = POLICIES.get(section.embodied.embodied_type)
        policy = factory.load(model, section.embodied, self._device)
        policy.model.requires_grad_(False)
        return policy

    @property
    def trainer(self) -> Trainer[Any]:
        """The actor role."""
        assert self._trainer is not None, "no actor is placed here"
        return self._trainer

    @property
    def rollout(self) -> Rollout:
        """The rollout role."""
        assert self._rollout is not None, "no rollout is placed here"
        return self._rollout

    def run(
        self, queue: EpisodeSource, sampling: Sampling, keep: bool, after: int, reel: Reel | None = None
    ) -> Iterator[EpisodeSummary | Trajectory]:
        """Yields a summary for each finished episode, followed by its trajectory if ``keep``; the summary then holds what
        advantages are estimated from, else its actions."""
        _use_threads(1)
        # after a final reward nothing is to come, and a value of it would not be looked at
        bootstrap = self._config.algorithm.bootstrap_type if keep and not self._reward.final else None
        for trajectory in self.rollout.run(queue, sampling, after, bootstrap):
            if reel is not None:
                self._recorder.offer(reel, trajectory)
            if keep:
                rewards = trajectory.rewards if self._reward.per_action else None
                yield replace(trajectory.summary, actions=None, rewards=rewards, values=trajectory.values)
                yield trajectory
            else:
                yield trajectory.summary

    def cancel(self) -> None:
        """End the run under way."""
        self.rollout.cancel()

    def videos(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> list[tuple[EpisodeSpec, bytes]]:
        """The MP4 files of those episodes that ran here."""
        return self._recorder.take(reel, specs)

    def sync(self, step: int) -> dict[str, float]:
        """Exchange weights with the other workers (collective), and let the rollout act with those of ``step``."""
        _use_threads(1)
        with self._notebook.span("weights", "sync"), self._rollout.lock if self._rollout else nullcontext():
            version = self._trainer.version if self._trainer else None
            sent = 0
            if self._weight_sync:
                version, sent = self._weight_sync.sync(version)
            if self._rollout:
                self._rollout.release(step, version or 0)
        return {"weight_sync/bytes": float(sent)}

    def embed(self, references: Sequence[Any]) -> list[Stored | None]:
        """Embed n trajectories; the embeddings, float32 [E] each, stay here. None for one that is NaN or infinite."""
        _use_threads(1)
        assert self._embedder is not None, "no embedding is placed here"
        with self._notebook.span("embedding", "embed", len(references)):
            embeddings = self._embedder.embed(self._store.fetch(references))
        return [Stored(self._store.put(one)) if np.isfinite(one).all() else None for one in embeddings]

    def call(self, function: EpisodesFn, episodes: Sequence[Episode]) -> NodeOutput:
        """What a node's function returns for episodes; of their columns, `Stored` ones are fetched first."""
        _use_threads(1)
        with self._notebook.span("functions", getattr(function, "__name__", "function"), len(episodes)):
            return self._call(function, episodes)

    def _call(self, function: EpisodesFn, episodes: Sequence[Episode]) -> NodeOutput:
        stored = [value.handle for e in episodes for value in e.columns.values() if isinstance(value, Stored)]
        values = iter(self._store.fetch(stored))

        def fetched(columns: dict[str, Any]) -> dict[str, Any]:
            return {name: next(values) if isinstance(value, Stored) else value for name, value in columns.items()}

        return function([replace(e, columns=fetched(e.columns)) for e in episodes], self._config)

    def update(self, references: Sequence[Any], chunks: Sequence[int], targets: Sequence[Target]) -> dict[str, float]:
        """Train on n trajectories (collective over the actor's ranks); returns the update's metrics."""
        _use_threads(self._threads)
        with self._notebook.span("actor", "update", len(references)):
            return self.trainer.update(references, chunks, targets, self._store.fetch)

    def save(self, folder: Path) -> list[str]:
        """Write this rank's shards of model, optimizer and scheduler; returns the names of all ranks' files."""
        with self._notebook.span("actor", "save"):
            return self.trainer.save(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        self.trainer.load(folder)

    def recording(self, since: float, clock: Clock) -> Recording:
        """What this worker and its simulators did from time ``since`` of ``clock`` on."""
        return self._notebook.recording(since, clock)

    def close(self) -> None:
        """End what runs beside the calls."""
        self._recorder.close()

    def stats(self) -> dict[str, float]:
        """Counters of the rollout role since the start, for benchmarks."""
        return self.rollout.stats()


def _use_threads(count: int) -> None:
    """Let PyTorch compute on ``count`` CPU cores in this thread; OpenMP keeps the number per calling thread.

    While simulators run they need the cores, and small batches gain nothing from several threads.
    """
    torch.set_num_threads(count)
