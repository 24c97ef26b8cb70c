"""The queue of episodes that several rollout workers share: an actor, because it lies in no worker's process."""

from collections.abc import Sequence
from typing import Any

import ray

from siirl.config.environments import TRAINING
from siirl.data.trajectory import EpisodeSpec
from siirl.roles.queue import EpisodeQueue, ExpectedSteps, Task


class QueueHost:
    """Holds the queue of the rollout under way; run as an actor."""

    def __init__(self) -> None:
        self._queue = EpisodeQueue([], {})

    def fill(self, specs: Sequence[EpisodeSpec], expected_steps: ExpectedSteps) -> None:
        """Start the queue of the next rollout."""
        self._queue = EpisodeQueue(specs, expected_steps)

    def clear(self) -> None:
        """Nothing that waits is run any more."""
        self._queue.clear()

    def take(self, slot: str, held: Task | None, env: str = TRAINING) -> EpisodeSpec | None:
        """See `EpisodeSource.take`."""
        return self._queue.take(slot, held, env)

    def put_back(self, spec: EpisodeSpec) -> None:
        """See `EpisodeSource.put_back`."""
        self._queue.put_back(spec)


class SharedQueue:
    """What a worker holds of the queue: an `EpisodeSource` that asks the actor, a millisecond per episode."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def take(self, slot: str, held: Task | None, env: str = TRAINING) -> EpisodeSpec | None:
        """See `EpisodeSource.take`."""
        return ray.get(self._host.take.remote(slot, held, env))

    def put_back(self, spec: EpisodeSpec) -> None:
        """See `EpisodeSource.put_back`."""
        ray.get(self._host.put_back.remote(spec))
