"""What the page says of imagination: what validations are compared with, how both correlate, and which films stand together."""

from pathlib import Path

import numpy as np
import pytest

from siirl.config.environments import TRAINING, VALIDATION
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary
from siirl.observe.episodes import EpisodeLog, EpisodeRow
from siirl.observe.report.film_pairs import pairs
from siirl.observe.report.imagination import imagination, imagines, pair_up
from siirl.observe.report.numbers import correlation
from siirl.observe.report.run import Run, read_run

WORLD = "actor_rollout_ref: {embodied: {env: {env_type: opensora_wm}, val_env: {env_type: libero}}}"


def row(step: int, split: str, env: str, trial: int, success: bool = False, task: int = 0) -> EpisodeRow:
    spec = EpisodeSpec("libero_spatial", task, trial, "pick it up", 220, 0, 0, 0, 0, env)
    video = f"videos/{split}_{env}_{task}_{trial}_{step}.mp4"
    return EpisodeRow.of(EpisodeSummary(spec, success, 100, 13, not success, 0, video=video), step, split)


def run_of(folder: Path, rows: list[EpisodeRow], config: str = WORLD) -> Run:
    """Its videos are empty files."""
    (folder / "config.yaml").write_text(config)
    (folder / "videos").mkdir()
    log = EpisodeLog(folder, resume_step=0)
    for one in rows:
        log.add(one)
        (folder / str(one.video)).touch()
    log.close()
    return read_run(folder)


def test_a_validation_is_compared_with_what_about_the_same_weights_imagined(tmp_path: Path) -> None:
    trained = [row(step, "train", TRAINING, 0, success=step > 2) for step in (1, 2, 3, 5)]
    tested = [row(step, "val", VALIDATION, 9, success=step == 2) for step in (0, 2, 7)]
    run = run_of(tmp_path, trained + tested)
    found = pair_up(run.episodes.of("train"), run.episodes.of("val"))
    assert [(pair.step, pair.imagined.successes, pair.imagined.n, pair.real.value) for pair in found] == [
        (0, 0, 1, 0.0),
        (2, 1, 2, 1.0),
    ]


def test_films_of_one_trial_stand_together_the_newest_ones_first(tmp_path: Path) -> None:
    rows = [
        *(row(step, "train", TRAINING, trial) for step, trial in ((1, 3), (2, 3), (3, 4))),
        row(2, "val", VALIDATION, 3),
        row(3, "train", VALIDATION, 3),
        *(row(1, "train", TRAINING, 7, task=1), row(2, "val", VALIDATION, 8, task=1)),
        row(1, "train", TRAINING, 5, task=2),
    ]
    found = [
        (one["task_id"], one["trial_id"], one["step"], other["trial_id"], other["step"])
        for one, other in pairs(run_of(tmp_path, rows))
    ]
    assert found == [(0, 3, 2, 3, 3), (1, 7, 1, 8, 2)], "task 1 has no trial in both, and task 2 no real film"


@pytest.mark.parametrize(
    "config",
    [
        "{}",
        WORLD.replace("val_env: {env_type: libero}", "val_env: {env_type: null}"),
        WORLD.replace("opensora_wm", "libero"),
        WORLD.replace("opensora_wm", "of_another_installation"),
    ],
)
def test_a_run_that_imagines_nothing_has_no_such_section(tmp_path: Path, config: str) -> None:
    run = run_of(tmp_path, [row(1, "train", TRAINING, 0), row(1, "val", VALIDATION, 0)], config)
    assert not imagines(run)
    assert imagination(run, tmp_path / "report.html") == []


def test_one_validation_is_no_correlation(tmp_path: Path) -> None:
    run = run_of(tmp_path, [row(1, "train", TRAINING, 0), row(1, "val", VALIDATION, 0)])
    page = "".join(imagination(run, tmp_path / "report.html"))
    assert "No correlation can be told of 1 validation: " in page
    assert "On average the two are the same." in page


def test_a_correlation_has_fishers_interval() -> None:
    x = np.array([0.1, 0.3, 0.4, 0.8, 0.9])
    y = np.array([0.2, 0.1, 0.5, 0.6, 0.9])
    found = correlation(x, y)
    assert found is not None
    assert found.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    half = 1.96 / np.sqrt(2)
    assert (found.low, found.high) == pytest.approx(
        (np.tanh(np.arctanh(found.r) - half), np.tanh(np.arctanh(found.r) + half))
    )
    assert correlation(x[:2], y[:2]) is None
    assert correlation(x, np.full(5, 0.5)) is None
    three = correlation(x[:3], y[:3])
    assert three is not None
    assert three.low is None
    assert correlation(x, 2 * x) is not None
