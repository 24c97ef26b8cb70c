"""Gate and cancel: nothing acts before its weights are there, versions are those that acted, a cancelled run leaves nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import ActionChunk, Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from tests.roles.scripted import CHUNK, ScriptedPool, SeededPolicy, spec

SAMPLING = Sampling(True, 1.0)


class Background:
    """A run in another thread, as a streaming actor has it."""

    def __init__(self, rollout: Rollout, queue: EpisodeQueue, after: int) -> None:
        self.done: list[Trajectory] = []
        self._run = rollout.run(queue, SAMPLING, after)
        self._thread = threading.Thread(target=lambda: self.done.extend(self._run), daemon=True)
        self._thread.start()

    def join(self) -> list[Trajectory]:
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the run hangs"
        return self.done


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def reset_all(pool: ScriptedPool) -> Callable[[], bool]:
    """Whether every slot was reset and has told its first observation."""
    return lambda: len(pool.started) >= pool.num_slots and not pool._pending


def test_simulators_reset_before_the_weights_are_there_and_the_policy_waits() -> None:
    pool, policy = ScriptedPool(3), SeededPolicy()
    rollout = Rollout(policy, pool)
    rollout.release(step=4, version=40)
    run = Background(rollout, EpisodeQueue([spec(i) for i in range(5)]), after=5)
    until(reset_all(pool))
    time.sleep(0.3)
    assert policy.batches == []
    rollout.release(step=5, version=50)
    done = run.join()
    assert sorted(pool.started) == list(range(5))
    assert {t.summary.policy_version for t in done} == {50}
    assert all(t.summary.seconds < 0.3 for t in done), "the wait for weights is none of the episode's time"


def test_a_closed_gate_costs_no_computing_time() -> None:
    pool = ScriptedPool(2)
    rollout = Rollout(SeededPolicy(), pool)
    run = Background(rollout, EpisodeQueue([spec(0), spec(1)]), after=0)
    until(reset_all(pool))
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
    rollout.release(0, 0)
    assert len(run.join()) == 2


def test_a_gate_that_opens_does_not_wait_for_the_slowest_reset() -> None:
    class Stuck(ScriptedPool):
        """Slot 1 never answers before somebody was stepped in slot 0."""

        def wait(self, block: bool) -> list:
            slots = [s for s in sorted(self._pending) if s == 0 or self._at[0] > 0]
            assert slots or not block, "would wait for the slow simulator"
            return [self._answer(slot) for slot in slots]

    pool = Stuck(2)
    rollout = Rollout(SeededPolicy(), pool)
    run = Background(rollout, EpisodeQueue([spec(0), spec(1)]), after=0)
    until(lambda: pool.started == [0, 1] and 0 not in pool._pending)
    rollout.release(0, 0)
    assert len(run.join()) == 2


def test_a_simulator_that_dies_while_the_policy_waits_resets_again() -> None:
    pool = ScriptedPool(2, dies={1: 2})
    rollout = Rollout(SeededPolicy(), pool)
    run = Background(rollout, EpisodeQueue([spec(0), spec(1)]), after=0)
    until(lambda: sorted(pool.started) == [0, 1, 1, 1] and not pool._pending)
    rollout.release(0, 0)
    assert {t.summary.spec.trial_id: t.summary.retries for t in run.join()} == {0: 0, 1: 2}


def test_an_episode_keeps_the_version_that_it_started_to_act_with() -> None:
    class Releasing(SeededPolicy):
        """New weights after every batch."""

        def act(self, inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
            assert rollout.lock.locked()
            chunk = super().act(inputs, sampling)
            rollout.release(0, 100 + len(self.batches))
            return chunk

    policy = Releasing()
    rollout = Rollout(policy, ScriptedPool(1))
    rollout.release(0, 7)
    done = list(rollout.run(EpisodeQueue([spec(i, 2 * CHUNK) for i in range(3)]), SAMPLING, after=0))
    assert [t.summary.policy_version for t in done] == [7, 102, 104], "two batches per episode"


def test_weights_that_are_locked_do_not_act() -> None:
    policy = SeededPolicy()
    rollout = Rollout(policy, ScriptedPool(1))
    rollout.release(0, 1)
    with rollout.lock:
        run = Background(rollout, EpisodeQueue([spec(0)]), after=0)
        time.sleep(0.1)
        assert policy.batches == []
        rollout.release(0, 2)
    assert [t.summary.policy_version for t in run.join()] == [2]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    slots=st.integers(1, 5),
    after=st.integers(1, 12),
    deaths=st.dictionaries(st.integers(0, 11), st.just(1), max_size=3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_cancelled_run_accounts_for_everything_and_the_next_one_starts_clean(
    lengths: list[int], slots: int, after: int, deaths: dict[int, int], seed: int
) -> None:
    specs = [spec(i, length) for i, length in enumerate(lengths)]
    queue = EpisodeQueue(specs)
    pool = ScriptedPool(slots, seed, deaths)
    policy = SeededPolicy()
    rollout = Rollout(policy, pool)
    rollout.release(0, 0)
    with _cancel_during(rollout, policy, after):
        done = list(rollout.run(queue, SAMPLING, after=0))
    assert not pool._pending, "a request is still under way"
    names = sorted([t.summary.spec.trial_id for t in done])
    assert len(set(names)) == len(names)
    assert len(names) + queue.clear() == len(specs)
    for trajectory in done:
        summary = trajectory.summary
        assert summary.drop_reason in (None, "cancelled")
        assert (summary.drop_reason is None) == (summary.steps == summary.spec.env_seed)
        assert len(trajectory.tokens) == len(trajectory.executed) == summary.chunks
        assert trajectory.executed.sum() == summary.steps, "the waste is what was simulated"
    again = list(rollout.run(EpisodeQueue([spec(100 + i) for i in range(4)]), SAMPLING, after=0))
    assert sorted(t.summary.spec.trial_id for t in again) == [100, 101, 102, 103]
    assert all(t.summary.drop_reason is None and t.summary.steps == 9 for t in again)


@contextmanager
def _cancel_during(rollout: Rollout, policy: SeededPolicy, batch: int) -> Iterator[None]:
    """Cancels in the middle of the so-many-th act."""

    def act(inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
        if len(policy.batches) + 1 == batch:
            rollout.cancel()
        return SeededPolicy.act(policy, inputs, sampling)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "act", act)
        yield


def test_a_run_is_cancelled_while_the_policy_waits() -> None:
    pool = ScriptedPool(3)
    rollout = Rollout(SeededPolicy(), pool)
    queue = EpisodeQueue([spec(i) for i in range(5)])
    run = Background(rollout, queue, after=0)
    until(reset_all(pool))
    rollout.cancel()
    done = run.join()
    assert [(t.summary.drop_reason, t.summary.steps) for t in done] == [("cancelled", 0)] * 3
    assert all(t.images.shape == (1, 1, 4, 4, 3) for t in done)
    assert len(queue) == 2


def test_an_episode_that_its_last_answer_ended_is_not_cancelled() -> None:
    class CancelWhileStepping(ScriptedPool):
        def step(self, slot: int, actions: np.ndarray) -> None:
            super().step(slot, actions)
            rollout.cancel()

    rollout = Rollout(SeededPolicy(), CancelWhileStepping(1))
    rollout.release(0, 0)
    queue = EpisodeQueue([spec(0, CHUNK), spec(1)])
    (only,) = rollout.run(queue, SAMPLING, after=0)
    assert only.summary.success
    assert only.summary.drop_reason is None
    assert len(queue) == 1


@pytest.mark.parametrize("moment", ["never run", "between runs"])
def test_a_cancel_outside_a_run_changes_nothing(moment: str) -> None:
    rollout = Rollout(SeededPolicy(), ScriptedPool(2))
    rollout.release(0, 0)
    if moment == "between runs":
        list(rollout.run(EpisodeQueue([spec(0)]), SAMPLING, after=0))
    rollout.cancel()
    done = list(rollout.run(EpisodeQueue([spec(i) for i in range(3)]), SAMPLING, after=0))
    assert [t.summary.drop_reason for t in done] == [None] * 3


def test_a_run_that_nobody_listens_to_any_more_leaves_no_answers_to_the_next() -> None:
    pool = ScriptedPool(3)
    rollout = Rollout(SeededPolicy(), pool)
    rollout.release(0, 0)
    abandoned = rollout.run(EpisodeQueue([spec(i, 4 + 8 * i) for i in range(6)]), SAMPLING, after=0)
    next(abandoned)
    abandoned.close()
    specs: list[EpisodeSpec] = [spec(10 + i) for i in range(4)]
    done = list(rollout.run(EpisodeQueue(specs), SAMPLING, after=0))
    assert sorted(t.summary.spec.trial_id for t in done) == [10, 11, 12, 13]
    assert all(t.summary.steps == 9 for t in done)
