"""Which calls a pool makes of what its slots asked for."""

import numpy as np

from siirl.dag.compile import Process
from siirl.workers.pool import SlotMap
from tests.envs.maniskill.conftest import episode

STILL = np.zeros((2, 7), np.float32)


def test_slots_that_step_together_wait_for_each_other() -> None:
    pool = SlotMap([Process(2, lock_step=True)] * 2)
    pool.step(0, STILL)
    pool.step(2, STILL)
    pool.step(3, STILL)
    assert pool.next_call(0, block=False) is None
    method, slots, actions = pool.next_call(1, block=False)  # type: ignore[misc]
    assert (method, slots) == ("step", [0, 1])
    assert actions.shape == (2, 2, 7)
    pool.step(1, STILL)
    assert pool.next_call(0, block=False)[:2] == ("step", [0, 1])  # type: ignore[index]


def test_they_wait_no_longer_when_nobody_else_will_ask() -> None:
    pool = SlotMap([Process(3, lock_step=True)])
    pool.step(2, STILL)
    pool.step(0, STILL)
    assert pool.next_call(0, block=True)[:2] == ("step", [2, 0])  # type: ignore[index]
    assert pool.next_call(0, block=True) is None


def test_resets_do_not_wait_and_go_first() -> None:
    pool = SlotMap([Process(2, lock_step=True)])
    pool.step(0, STILL)
    pool.reset(1, episode())
    assert pool.next_call(0, block=False)[:2] == ("reset", [1])  # type: ignore[index]
    assert pool.next_call(0, block=False) is None
    pool.step(1, STILL)
    assert pool.next_call(0, block=False)[:2] == ("step", [0, 1])  # type: ignore[index]


def test_other_slots_never_wait() -> None:
    pool = SlotMap([Process(2)])
    pool.step(1, STILL)
    assert pool.next_call(0, block=False)[:2] == ("step", [1])  # type: ignore[index]
