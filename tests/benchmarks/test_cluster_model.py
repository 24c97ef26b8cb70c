"""The model of a cluster and the line through memory, against what can be said without them."""

import pytest

from benchmarks.driver import EPISODES_PER_SLOT, bytes_per_episode, model, specs_of
from benchmarks.soak import trend


def test_without_costs_a_slot_is_always_busy() -> None:
    alone = model(1, duration=5.0, spread=0.0, driver_s=0.0, queue_s=0.0)
    assert alone == pytest.approx(5.0 * EPISODES_PER_SLOT)
    assert model(64, duration=5.0, spread=0.0, driver_s=0.0, queue_s=0.0) == pytest.approx(alone)


def test_a_saturated_driver_decides_alone() -> None:
    slots, cost = 512, 0.1
    wall = model(slots, duration=1.0, spread=0.3, driver_s=cost, queue_s=0.0)
    assert wall == pytest.approx(slots * EPISODES_PER_SLOT * cost, rel=0.02)


def test_a_saturated_queue_decides_alone() -> None:
    slots, cost = 512, 0.1
    wall = model(slots, duration=1.0, spread=0.0, driver_s=0.0, queue_s=cost)
    assert wall == pytest.approx(slots * EPISODES_PER_SLOT * cost, rel=0.02)


@pytest.mark.usefixtures("ray_cluster")
def test_an_episode_costs_the_driver_less_than_4_kb() -> None:
    assert 300 < bytes_per_episode(specs_of(400)) < 4096


def test_the_trend_is_that_of_the_second_half() -> None:
    found = trend([100.0] * 50 + [200 + 0.5 * step for step in range(50)])
    assert found["slope"] == pytest.approx(0.5)
    assert found["error"] == pytest.approx(0, abs=1e-9)
    assert found["first"] == 100
