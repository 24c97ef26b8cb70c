"""The node worker: hosts the roles of one slot in one process, so that they share one copy of the weights.

A plain class; `ray_workers.py` runs it as a Ray actor, `inline.py` in this process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siirl.config.schema import Config
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Trajectory
from siirl.embeddings.base import ENCODERS, encoder_name
from siirl.policies.base import POLICIES, Sampling
from siirl.roles.embedder import Embedder
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from siirl.roles.slots import EnvPool
from siirl.roles.trainer import Trainer

Fetch = Callable[[Sequence[Any]], list[Trajectory]]


class NodeWorker:
    """Hosts rollout, embedding and actor.

    Args:
        config: the run's config.
        device: torch device of this slot.
        pool: the simulator slots that the rollout role drives.
        fetch: turns references to trajectories into trajectories.
        with_embedding: whether the plan has a node that embeds videos.
    """

    def __init__(self, config: Config, device: str, pool: EnvPool, fetch: Fetch, with_embedding: bool) -> None:
        torch.manual_seed(config.trainer.seed)
        torch.use_deterministic_algorithms(config.trainer.deterministic)
        # not torch's own default: Ray sets OMP_NUM_THREADS to the number of CPUs that the actor reserves
        self._threads = config.trainer.cpu_threads or len(os.sched_getaffinity(0))
        self._fetch = fetch
        section = config.actor_rollout_ref
        where = torch.device(device)
        policy = POLICIES.get(section.embodied.embodied_type).load(section.model, section.embodied, where)
        self._trainer: Trainer[Any] | None = None if config.trainer.val_only else Trainer(policy, config, where)
        self.rollout_role = Rollout(policy, pool, section.rollout.pipeline_stage_num, config.trainer.deterministic)
        self.embedder = None
        if with_embedding:
            self.embedder = Embedder(ENCODERS.get(encoder_name(section.embodied)).load(section.embodied, where))

    @property
    def trainer(self) -> Trainer[Any]:
        """The actor role."""
        assert self._trainer is not None, "a run that only validates has no trainer"
        return self._trainer

    def run(
        self, specs: Sequence[EpisodeSpec], sampling: Sampling, keep: bool
    ) -> Iterator[EpisodeSummary | Trajectory]:
        """Yields a summary for each finished episode, followed by its trajectory if ``keep``."""
        _use_threads(1)
        version = self._trainer.version if self._trainer else 0
        self.rollout_role.release(0, version)
        for trajectory in self.rollout_role.run(EpisodeQueue(specs), sampling, after=0):
            yield trajectory.summary
            if keep:
                yield trajectory

    def embed(self, references: Sequence[Any]) -> np.ndarray:
        """Embeddings float32 [n, E] of n trajectories."""
        _use_threads(1)
        assert self.embedder is not None, "this worker was built without an embedder"
        return self.embedder.embed(self._fetch(references))

    def update(self, references: Sequence[Any], chunks: Sequence[int], advantages: np.ndarray) -> dict[str, float]:
        """Train on n trajectories; returns the update's metrics."""
        _use_threads(self._threads)
        return self.trainer.update(references, chunks, advantages, self._fetch)

    def save(self, folder: Path) -> None:
        """Write this rank's shards of model, optimizer and scheduler."""
        self.trainer.save(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        self.trainer.load(folder)

    def stats(self) -> dict[str, float]:
        """See `Rollout.stats`."""
        return self.rollout_role.stats()


def _use_threads(count: int) -> None:
    """Let PyTorch compute on ``count`` CPU cores in this thread; OpenMP keeps the number per calling thread.

    While simulators run they need the cores, and small batches gain nothing from several threads.
    """
    torch.set_num_threads(count)
