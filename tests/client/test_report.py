"""What a real run leaves for its page, across resuming and starting anew, and the page at its end."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from siirl.client import main_dag
from siirl.observe.metrics import wilson_interval
from siirl.observe.report import REPORT
from siirl.observe.report.gantt import read_step
from siirl.observe.report.run import read_run
from tests.client.evaluations import evaluate
from tests.workers.runs import ENV, EXACT, INLINE, TOY, command_line, log_of

pytestmark = pytest.mark.usefixtures("toy")

WHOLE = {
    "algorithm.reward": "srpo",
    "algorithm.embodied_sampling.filter_accuracy": "true",
    "algorithm.embodied_sampling.accuracy_lower_bound": 0.3,
    "actor_rollout_ref.rollout.n": 4,
    "data.train_batch_size": 3,
    f"{ENV}.num_holdout_trials": 4,
    f"{ENV}.num_trials_per_task": 12,
    "trainer.val_before_train": "true",
    "trainer.test_freq": 2,
    "trainer.save_freq": 2,
    "trainer.timeline_freq": 1,
    "trainer.report": "true",
}


def arguments(folder: Path, policy: Path, **trainer: object) -> list[str]:
    more = {f"trainer.{key}": value for key, value in trainer.items()}
    return command_line(folder, policy, TOY, EXACT, INLINE, WHOLE, more)


@pytest.fixture(scope="module")
def finished(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("finished")
    assert main_dag.main(arguments(folder, policy)) == 0
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_every_finished_episode_has_a_row_that_agrees_with_the_metrics(finished: Path) -> None:
    run = read_run(finished)
    train, tested = run.episodes.of("train"), run.episodes.of("val")
    assert [int((train.step == step).sum()) for step in (1, 2)] == [12, 12]
    assert [int((tested.step == step).sum()) for step in (0, 2)] == [4, 4]
    for row in log_of(finished):
        if row["step"] > 0:
            now = train.where(train.step == row["step"])
            assert now.success.mean() == pytest.approx(row["rollout/success_rate"])
            groups = np.unique(now.column("group_id")[now.kept])
            assert len(groups) == pytest.approx(3 * row["filter/acceptance_rate"])
            reward = now.column("reward").astype(float)
            assert (np.isfinite(reward) == now.kept).all()
            if now.kept.any():
                assert np.nanmean(reward) == pytest.approx(row["rollout/reward_mean"])


def test_a_page_is_there_at_the_end_with_the_steps_timeline(finished: Path) -> None:
    page = (finished / REPORT).read_text()
    for part in ('id="learning"', 'id="one-iteration"', 'id="workflow"', "slot 0 · simulator 0"):
        assert part in page
    steps = [read_step(row) for row in read_run(finished).timelines]
    assert [step.number for step in steps] == [1, 2]
    for step in steps:
        roles = {lane.role for lane in step.lanes}
        assert roles - {"embedding", "functions", "actor"} == {"driver", "simulator", "policy", "weights"}
        shares = step.shares("simulator")
        assert shares["sim"] > 0
        assert 0.99 <= sum(shares.values()) <= 1.01, "one process does one thing at a time"
        for lane in step.lanes:
            spans = np.concatenate(list(lane.events.values()))
            spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
            assert (spans[1:, 0] >= spans[:-1, 1] - 0.001).all(), f"{lane.name} does two things at once"


def test_a_resumed_run_has_each_episode_once_and_tells_of_both_starts(copy: Path, policy: Path) -> None:
    assert main_dag.main(arguments(copy, policy, total_training_steps=3)) == 0
    run = read_run(copy)
    assert list(np.unique(run.episodes.of("train").step, return_counts=True)[1]) == [12, 12, 12]
    assert [row["step"] for row in run.timelines] == [1, 2, 3]
    starts = [row for row in run.journal if row["kind"] == "start"]
    assert [row["step"] for row in starts] == [0, 2]
    assert starts[1]["command"] == arguments(copy, policy, total_training_steps=3)


def test_a_run_that_starts_anew_moves_all_of_it_aside(copy: Path, policy: Path) -> None:
    assert main_dag.main(arguments(copy, policy, resume_mode="disable", total_training_steps=1, report="false")) == 0
    aside = {path.name for path in (copy / "set_aside_1").iterdir()}
    assert aside >= {"metrics.jsonl", "config.yaml", "episodes", "timeline.jsonl", "journal.jsonl", "plan.json", REPORT}
    assert set(np.unique(read_run(copy).episodes.step)) == {0, 1}
    assert not (copy / REPORT).exists()


def test_a_page_that_cannot_be_written_undoes_nothing(
    copy: Path, policy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / REPORT).unlink()
    (copy / REPORT).mkdir()
    with caplog.at_level(logging.WARNING):
        assert main_dag.main(arguments(copy, policy, total_training_steps=3)) == 0
    assert f"{copy / REPORT} could not be written: IsADirectoryError" in caplog.text
    assert log_of(copy)[-1]["step"] == 3


def test_the_plan_is_that_of_the_run(finished: Path) -> None:
    plan = json.loads((finished / "plan.json").read_text())
    assert [node["name"] for node in plan["nodes"]] == [
        "rollout",
        "filter",
        "embedding",
        "reward",
        "advantage",
        "update",
    ]
    assert plan["slots"][0]["holds"][0] == "1 simulator"


def test_an_evaluation_has_a_page_too(policy: Path, tmp_path: Path) -> None:
    evaluate(tmp_path / "evaluation", policy, {"trainer.report": "true"})
    run = read_run(tmp_path / "evaluation")
    page = (tmp_path / "evaluation" / REPORT).read_text()
    low, high = wilson_interval(int(run.episodes.success.sum()), len(run.episodes))
    assert f"{low * 100:.0f}–{high * 100:.0f}\u202f% of {len(run.episodes)}" in page
    assert 'id="tasks"' in page
    assert 'id="learning"' not in page
    assert ">done<" in page
