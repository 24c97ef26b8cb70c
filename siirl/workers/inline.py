"""Workers without Ray: everything in this process, one call after the other. For debuggers and Ray-less machines."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from siirl.config.environments import environments
from siirl.config.schema import Config
from siirl.dag.compile import Plan, Process
from siirl.data.trajectory import Episode, EpisodeSpec, EpisodeSummary, Trajectory
from siirl.envs.base import ENVS
from siirl.observe.timeline import Clock, Recording, Span
from siirl.observe.video.choice import Reel
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeQueue, ExpectedSteps
from siirl.roles.slots import Ready
from siirl.training.fsdp import ALONE
from siirl.workers.node_worker import NodeWorker, Store
from siirl.workers.pool import SlotMap
from siirl.workers.seats import seats


class InlinePool(SlotMap):
    """Simulators in this process, one of each environment; `wait` does the work that was asked for."""

    def __init__(self, config: Config, processes: Sequence[Process]) -> None:
        settings = environments(config)
        assert [process.env for process in processes] == [*settings], "preflight lets through what one process can hold"
        super().__init__(processes)
        wrist = config.actor_rollout_ref.embodied.num_images_in_input > 1
        self._envs = [ENVS.get(env.env_type)(env, wrist=wrist) for env in settings.values()]

    def wait(self, block: bool) -> list[Ready]:
        """Run the next call of an env; a simulator that fails ends the run with its own traceback."""
        for number, env in enumerate(self._envs):
            call = self.next_call(number, block)
            if call is not None:
                method, slots, argument = call
                start = time.monotonic()
                result = getattr(env, method)(slots, argument)
                return self.split(number, slots, result, Span(start, time.monotonic(), Clock.here()))
        return []

    def rest(self) -> None:
        """See `EnvPool.rest`."""
        for env in self._envs:
            env.rest()

    def close(self) -> None:
        """Free the simulators."""
        for env in self._envs:
            env.close()


@dataclass(frozen=True)
class Done:
    """A result that is there already."""

    value: Any

    def result(self) -> Any:
        """The value."""
        return self.value

    def done(self) -> bool:
        """See `Future.done`."""
        return True


@dataclass(frozen=True)
class Later:
    """A result that who asks for it waits for."""

    compute: Callable[[], Any]

    def result(self) -> Any:
        """The value."""
        return self.compute()

    def done(self) -> bool:
        """See `Future.done`."""
        return False


class InlineWorkers:
    """The one node worker, in this process, one call after the other.

    Raises:
        ValueError: an accelerator is declared, and this process has none.
    """

    in_background = False

    def __init__(self, config: Config, plan: Plan) -> None:
        if plan.slots[0].device != "cpu" and not torch.cuda.is_available():
            raise ValueError(
                f"trainer.n_gpus_per_node={config.trainer.n_gpus_per_node}, but PyTorch finds no accelerator on this "
                "machine; set trainer.n_gpus_per_node=0 to run on the CPU"
            )
        self._pool = InlinePool(config, plan.processes)
        (seat,) = seats(plan)
        store = Store(put=lambda value: value, fetch=list)
        self._worker = NodeWorker(config, seat, seat.slot.device, self._pool, store, ALONE)

    def rollout(
        self,
        specs: Sequence[EpisodeSpec],
        sampling: Sampling,
        *,
        keep: bool,
        after: int,
        expected_steps: ExpectedSteps,
        reel: Reel | None = None,
    ) -> Iterator[Episode]:
        """See `Workers.rollout`."""
        results = self._worker.run(EpisodeQueue(specs, expected_steps), sampling, keep, after, reel)
        for summary in results:
            assert isinstance(summary, EpisodeSummary)
            trajectory = next(results) if keep else None
            assert trajectory is None or isinstance(trajectory, Trajectory)
            yield Episode(summary, trajectory)

    def videos(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> list[Later]:
        """See `Workers.videos`."""
        return [Later(lambda: self._worker.videos(reel, specs))]

    def cancel(self) -> None:
        """See `Workers.cancel`."""
        self._worker.cancel()

    def submit(self, operation: str, *args: Any) -> Done:
        """See `Workers.submit`; runs at once."""
        return Done(getattr(self._worker, operation)(*args))

    def sync(self, step: int) -> dict[str, float]:
        """See `Workers.sync`."""
        return self._worker.sync(step)

    def recordings(self, seconds: float) -> list[Recording]:
        """See `Workers.recordings`."""
        return [self._worker.recording(seconds)]

    def close(self) -> None:
        """Free the simulator."""
        self._worker.close()
        self._pool.close()
