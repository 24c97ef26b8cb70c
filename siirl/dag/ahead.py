"""The rollouts of the next steps, under way while the update runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from siirl.config.schema import Config
from siirl.dag.batch import Batch
from siirl.dag.executor import Executor
from siirl.data.sampler import Sampler


class Ahead:
    """Collects the batches of training steps, one after the other, in a thread of its own.

    A step's rollout may start before the step: its simulators are reset while the update runs, and its policy acts as soon as
    the weights that `trainer.max_staleness` asks for are in place. Where nothing runs in the background, a batch is collected
    when it is asked for.

    Args:
        config: the run's config.
        executor: collects a batch.
        sampler: gives the prompts, in the order of the steps.
        on_start: called with the number of episodes of each generation batch.
    """

    def __init__(self, config: Config, executor: Executor, sampler: Sampler, on_start: Callable[[int], None]) -> None:
        self._lead = max(1, config.trainer.max_staleness)
        self._executor, self._sampler, self._on_start = executor, sampler, on_start
        self._thread = ThreadPoolExecutor(1, "rollout") if executor.workers.in_background else None
        self._under_way: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """The batch of ``step``, waited for."""
        if self._thread is None:
            return self._collect(step)
        self._start(step)
        return self._under_way.pop(step).result()

    def start_after(self, step: int, last: int) -> None:
        """Start the rollouts that may run beside the update of ``step``, none of a step after ``last``."""
        for following in range(step + 1, min(step + self._lead, last) + 1):
            self._start(following)

    def close(self) -> None:
        """Start nothing more; what runs ends with its workers."""
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, step: int) -> None:
        if self._thread and step not in self._under_way:
            self._under_way[step] = self._thread.submit(self._collect, step)

    def _collect(self, step: int) -> Batch:
        return self._executor.collect(self._sampler, step, self._on_start)
