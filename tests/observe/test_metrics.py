"""Metrics of episodes, times, intervals, and metrics.jsonl across crashes."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.config.environments import VALIDATION
from siirl.observe.metrics import MetricsLog, StepTimer, rollout_metrics, validation_metrics, wilson_interval
from tests.observe.episodes import summary


class Clock:
    """Time that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_log_is_one_object_a_line_and_readable_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run")
    log.log(0, {"val/success_rate": 0.5})
    log.log(1, {"actor/loss": float("nan"), "actor/grad_norm": math.inf, "time/step": 3})
    assert rows(tmp_path / "run") == [
        {"step": 0, "val/success_rate": 0.5},
        {"step": 1, "actor/loss": None, "actor/grad_norm": None, "time/step": 3.0},
    ]


def test_resume_cuts_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for step in range(5):
        log.log(step, {"x": step})
    with log.path.open("a") as file:
        file.write('{"step": 2, "x": 1')
    resumed = MetricsLog(tmp_path, resume_step=2)
    assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2]
    resumed.log(3, {"x": 33})
    assert rows(tmp_path)[-1] == {"step": 3, "x": 33}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    MetricsLog(tmp_path).log(0, {"x": 1})
    MetricsLog(tmp_path)
    assert rows(tmp_path) == []


def test_rollout_metrics() -> None:
    episodes = [
        summary(True, steps=80, reward_sum=0.5),
        summary(False, steps=220, retries=2),
        summary(False, steps=3, drop_reason="NaN observation"),
        summary(True, steps=120, retries=1, reward_sum=1.5),
    ]
    metrics = rollout_metrics(episodes, [1.0, 0.3, 1.0])
    assert metrics == {
        "rollout/success_rate": pytest.approx(2 / 3),
        "rollout/reward_mean": pytest.approx(2.3 / 3),
        "rollout/reward_std": pytest.approx(0.7 * 2**0.5 / 3),
        "rollout/episode_length": pytest.approx(140),
        "env/success_rate": 0.5,
        "env/success_once": 0.5,
        "env/termination_rate": 0.5,
        "env/step_reward": pytest.approx(2 / 420),
        "env/retries": 3,
        "env/dropped": 1,
        "env/dropped/nan_observation": 1,
    }
    assert "rollout/reward_mean" not in rollout_metrics(episodes)
    assert rollout_metrics(episodes[2:3], [])["rollout/success_rate"] == 0


def test_imagined_and_real_episodes_are_told_apart_where_there_are_both() -> None:
    both = [summary(True, steps=10), summary(False, steps=20), summary(True, steps=90), summary(True, drop_reason="x")]
    both[2:] = [replace(one, spec=replace(one.spec, env=VALIDATION)) for one in both[2:]]
    found = rollout_metrics(both)
    assert found["rollout/real_fraction"] == 0.5
    assert (found["rollout/success_rate/imagined"], found["rollout/success_rate/real"]) == (0.5, 1.0)
    assert (found["rollout/episode_length/imagined"], found["rollout/episode_length/real"]) == (15, 90)
    assert "rollout/success_rate/imagined" not in rollout_metrics(both[2:])
    assert not any("real" in name for name in rollout_metrics(both[:2]))


def test_validation_metrics_per_task() -> None:
    episodes = [summary(True, 0), summary(False, 0), summary(True, 7), summary(False, 7, drop_reason="timeout")]
    assert validation_metrics([*episodes, summary(True, 7)]) == {
        "val/success_rate": 0.6,
        "val/dropped": 1,
        "val/success_rate/libero_spatial_0": 0.5,
        "val/success_rate/libero_spatial_7": pytest.approx(2 / 3),
    }


def test_wilson_interval_known_values() -> None:
    assert wilson_interval(8, 10) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(0, 10) == (0, pytest.approx(0.2775, abs=1e-4))


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_rate_and_mirrors(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson_interval(n - successes, n) == (pytest.approx(1 - high), pytest.approx(1 - low))
    more = wilson_interval(successes * 10, n * 10)
    assert more[1] - more[0] < high - low


def test_timer_repeated_and_nested_sections_add_up() -> None:
    clock = Clock()
    timer = StepTimer(clock)
    clock.now += 1
    for _ in range(2):
        with timer("rollout"):
            clock.now += 2
            with timer("embedding"):
                clock.now += 3
            with timer("rollout"):
                clock.now += 0.5
    clock.now += 1
    metrics = timer.metrics()
    assert metrics == {"time/rollout": 5, "time/embedding": 6, "time/step": 13, "time/unaccounted": 2 / 13}


def test_timer_counts_a_section_that_raised() -> None:
    clock = Clock()
    timer = StepTimer(clock)

    def fail() -> None:
        with timer("update"):
            clock.now += 4
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    clock.now += 1
    assert timer.metrics() == {"time/update": 4, "time/step": 5, "time/unaccounted": 0.2}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.floats(0, 10)), max_size=12))
def test_sections_and_the_unaccounted_share_make_up_the_step(sections: list) -> None:
    clock = Clock()
    timer = StepTimer(clock)
    for name, depth, seconds in sections:
        clock.now += seconds
        with timer(name):
            for _ in range(depth):
                with timer("inner"):
                    clock.now += seconds
    metrics = timer.metrics()
    step, unaccounted = metrics.pop("time/step"), metrics.pop("time/unaccounted")
    assert 0 <= unaccounted <= 1
    assert sum(metrics.values()) + unaccounted * step == pytest.approx(step, abs=1e-9)
