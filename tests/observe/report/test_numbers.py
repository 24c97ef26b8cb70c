"""The page's statistics, against counting by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.observe.episodes import SCHEMA, EpisodeLog, EpisodeRow
from siirl.observe.metrics import wilson_interval
from siirl.observe.report.headline import faults
from siirl.observe.report.learning import success_chart
from siirl.observe.report.numbers import mean_curve, pool_of, quartile_curve, success_curve
from siirl.observe.report.run import Episodes, Run, read_run, tell_apart
from siirl.observe.report.tasks import tasks_table
from siirl.observe.timeline import TIMELINE
from tests.observe.episodes import summary


def run_of(folder: Path, rows: list[EpisodeRow]) -> Run:
    log = EpisodeLog(folder)
    for row in rows:
        log.add(row)
    log.close()
    return read_run(folder)


def test_success_is_counted_per_step_and_pooled_over_neighbours(tmp_path: Path) -> None:
    won = {1: [True, False], 2: [True, True, False], 4: [False], 5: [True]}
    rows = [EpisodeRow.of(summary(s), step, "train") for step, episodes in won.items() for s in episodes]
    episodes = run_of(tmp_path, rows).episodes
    curve = success_curve(episodes)
    assert list(curve.step) == [1, 2, 4, 5]
    np.testing.assert_allclose(curve.value, [1 / 2, 2 / 3, 0, 1])
    assert (curve.low[1], curve.high[1]) == wilson_interval(2, 3)  # type: ignore[index]
    pooled = success_curve(episodes, pool=3)
    np.testing.assert_allclose(pooled.value, [3 / 5, 3 / 6, 3 / 5, 1 / 2])
    assert list(pooled.n) == [5, 6, 5, 2]  # type: ignore[call-overload]


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(-10, 10) | st.just(float("nan"))), min_size=1, max_size=40))
def test_means_and_quartiles_are_those_of_each_step(rows: list[tuple[int, float]]) -> None:
    steps, values = (np.array(column) for column in zip(*rows, strict=True))
    groups = {int(s): values[(steps == s) & np.isfinite(values)] for s in np.unique(steps[np.isfinite(values)])}
    mean, quartiles = mean_curve(steps, values), quartile_curve(steps, values)
    assert list(mean.step) == list(quartiles.step) == list(groups)
    for i, group in enumerate(groups.values()):
        error = 1.96 * group.std(ddof=1) / np.sqrt(len(group)) if len(group) > 1 else 0
        assert mean.value[i] == pytest.approx(group.mean(), abs=1e-9)
        assert mean.high[i] - mean.value[i] == pytest.approx(error, abs=1e-9)  # type: ignore[index]
        assert quartiles.value[i] == pytest.approx(np.median(group))
        assert quartiles.low[i] == pytest.approx(np.quantile(group, 0.25))  # type: ignore[index]


@pytest.mark.parametrize(("steps", "pool"), [(6, 1), (60, 1), (61, 3), (200, 7)])
def test_few_steps_are_not_pooled_and_pools_are_odd(steps: int, pool: int) -> None:
    assert pool_of(steps) == pool


def test_the_table_has_a_line_per_task_with_both_validations(tmp_path: Path) -> None:
    rows = [EpisodeRow.of(summary(i < 1, task_id=3), 0, "val") for i in range(4)]
    rows += [EpisodeRow.of(summary(i < 3, task_id=3), 5, "val") for i in range(4)]
    rows += [EpisodeRow.of(summary(True, task_id=7, drop_reason="nan_action"), 5, "train", kept=True)]
    table = str(tasks_table(run_of(tmp_path, rows)))
    assert table.count("<tr>") == 3
    assert "libero_spatial 3" in table
    low, high = wilson_interval(1, 4)
    assert "<b>25\u202f%</b>" in table
    assert f"{low * 100:.0f}–{high * 100:.0f}\u202f% of 4" in table
    assert "<b>75\u202f%</b>" in table


@pytest.mark.parametrize(("sampled", "label"), [(True, "validation, sampled"), (False, "validation, greedy")])
def test_the_legend_tells_how_validation_acts(tmp_path: Path, sampled: bool, label: str) -> None:
    run = run_of(tmp_path, [EpisodeRow.of(summary(True), 0, "val")])
    config = {"actor_rollout_ref.rollout.val_kwargs.do_sample": sampled}
    assert label in str(success_chart(replace(run, config=config)))


def test_runs_are_named_by_their_folders_whatever_the_experiment_is_called() -> None:
    def run(folder: str) -> Run:
        no_episodes = Episodes(SCHEMA.empty_table())
        return Run(Path(folder), {"trainer.experiment_name": "quick"}, [], no_episodes, [], None, [])

    def names(*runs: Run) -> list[str]:
        return [one.name for one in tell_apart(runs)]

    assert names(run("/a/x"), run("/a/y")) == ["x", "y"]
    assert names(run("/a/x"), run("/b/x")) == ["/a/x", "/b/x"]


@pytest.mark.parametrize(
    ("marks", "broken"),
    [
        ("start done", 0),
        ("start done start done", 0),
        ("start start done", 1),
        ("start interrupted start crashed start start", 3),
        ("start", 0),
    ],
)
def test_starts_after_an_end_in_peace_are_no_faults(marks: str, broken: int) -> None:
    journal = [{"kind": "start"} if mark == "start" else {"kind": "end", "how": mark} for mark in marks.split()]
    run = Run(Path(), {}, [], Episodes(SCHEMA.empty_table()), [], None, journal)
    assert faults(run)["start after a kill, a crash or Ctrl-C"] == broken


def test_of_a_long_run_only_the_last_timelines_are_kept(tmp_path: Path) -> None:
    run_of(tmp_path, [EpisodeRow.of(summary(True), 1, "train")])
    (tmp_path / TIMELINE).write_text("".join(f'{{"step": {step}}}\n' for step in range(100)) + '{"step": 1')
    assert [row["step"] for row in read_run(tmp_path).timelines] == list(range(91, 100))
