"""Which step's rollout starts when, with an executor that only notes."""

import threading
from types import SimpleNamespace

import pytest

from siirl.config.schema import Config
from siirl.dag.ahead import Ahead


class NotingExecutor:
    """Collects a batch as soon as its step is allowed to end."""

    def __init__(self, in_background: bool = True) -> None:
        self.workers = SimpleNamespace(in_background=in_background)
        self.started: list[int] = []
        self.may_end = threading.Semaphore(0)
        self.has_started = threading.Semaphore(0)
        self.threads: set[int] = set()

    def collect(self, sampler: object, step: int, on_start: object) -> str:
        self.threads.add(threading.get_ident())
        self.started.append(step)
        self.has_started.release()
        if self.workers.in_background:
            assert self.may_end.acquire(timeout=60)
        if step == 13:
            raise ArithmeticError("unlucky")
        return f"batch {step}"


def make(executor: NotingExecutor, max_staleness: int = 0) -> Ahead:
    config = Config()
    config.trainer.max_staleness = max_staleness
    return Ahead(config, executor, None, lambda total: None)  # type: ignore[arg-type]


def test_the_next_rollout_starts_while_the_update_runs() -> None:
    executor = NotingExecutor()
    ahead = make(executor)
    executor.may_end.release()
    assert ahead.batch(1) == "batch 1"
    ahead.start_after(1, last=9)
    for _ in range(2):
        assert executor.has_started.acquire(timeout=60)
    assert executor.started == [1, 2], "step 2 is under way though nobody waits for it"
    executor.may_end.release()
    assert ahead.batch(2) == "batch 2"
    assert threading.get_ident() not in executor.threads
    ahead.close()


@pytest.mark.parametrize(("staleness", "steps"), [(0, [1, 2]), (1, [1, 2]), (3, [1, 2, 3, 4])])
def test_as_many_steps_ahead_as_the_staleness_allows_and_none_past_a_validation(
    staleness: int, steps: list[int]
) -> None:
    for last in (1, 3, 9):
        executor = NotingExecutor()
        ahead = make(executor, staleness)
        for _ in range(9):
            executor.may_end.release()
        ahead.batch(1)
        ahead.start_after(1, last)
        expected = [step for step in steps if step <= last]
        for step in expected[1:]:
            assert ahead.batch(step) == f"batch {step}"
        assert executor.started == expected
        ahead.close()


def test_one_process_collects_when_it_is_asked() -> None:
    executor = NotingExecutor(in_background=False)
    ahead = make(executor)
    ahead.batch(1)
    ahead.start_after(1, last=9)
    assert executor.started == [1]
    assert executor.threads == {threading.get_ident()}


def test_a_rollout_that_fails_ends_the_run_when_its_step_comes() -> None:
    executor = NotingExecutor()
    ahead = make(executor)
    executor.may_end.release()
    ahead.start_after(12, last=20)
    with pytest.raises(ArithmeticError, match="unlucky"):
        ahead.batch(13)
    ahead.close()
