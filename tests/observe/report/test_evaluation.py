"""The page of an evaluation: what it is of, and nothing of what only training has."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from siirl.config.evaluation import meaning
from siirl.config.load import config_to_yaml, load_config
from siirl.observe.episodes import EpisodeLog, EpisodeRow
from siirl.observe.pairing import LETTERS, cells
from siirl.observe.report import REPORT, write_report
from siirl.observe.results import results, write_results
from siirl.observe.statistics import Pairs
from siirl.training.checkpoint import CONFIG
from tests.observe.episodes import summary
from tests.observe.report.test_markup import Seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a checkpoint, evaluated with the config of its run."""
    return evaluated(tmp_path / "night", "evaluate.split=holdout")


def evaluated(folder: Path, *overrides: str, successes: Sequence[str] = ("10",)) -> Path:
    """With the successes of each task's trials, 1 or 0."""
    folder.mkdir()
    run = ["trainer.experiment_name=quick", "data.train_batch_size=4"]
    run += [
        "actor_rollout_ref.rollout.val_kwargs.do_sample=false",
        "actor_rollout_ref.embodied.env.num_holdout_trials=5",
    ]
    config = load_config("embodied_srpo_trainer", [*run, *overrides])
    (folder / CONFIG).write_text(config_to_yaml(config))
    mode = "sampled" if config.evaluate.do_sample else "greedy"
    settings = {"evaluate.suites": {"libero_spatial": "libero_spatial"}} | meaning(config)
    header = {"policy": "/runs/night/global_step_4", "weights": folder.name, "mode": mode, "settings": settings}
    rows = [
        replace(EpisodeRow.of(summary(digit == "1", task_id=task), 0, "eval"), trial_id=trial)
        for task, digits in enumerate(successes)
        for trial, digit in enumerate(digits)
    ]
    log = EpisodeLog(folder)
    for row in rows:
        log.add(row)
    log.close()
    write_results(folder, {"complete": True} | header | results(rows))
    return folder


def page(*folders: Path) -> str:
    return write_report(folders, folders[0] / REPORT).read_text()


def text(*folders: Path) -> str:
    seen = Seen()
    seen.feed(page(*folders))
    return seen.text


def test_it_says_what_was_evaluated_and_how(folder: Path, tmp_path: Path) -> None:
    html = page(folder)
    assert "<title>night · siirl</title>" in html
    assert "<h1>night</h1>" in html
    assert "evaluation of /runs/night/global_step_4 (openvla-oft), greedy, holdout trials; libero_spatial, all" in html
    sampled = evaluated(tmp_path / "drawn", "evaluate.do_sample=true", "evaluate.temperature=0.5")
    assert "/global_step_4 (openvla-oft), sampled at temperature 0.5, all trials" in page(sampled)


def test_its_config_has_what_an_evaluation_reads(folder: Path) -> None:
    html = page(folder)
    for key in ("evaluate.split", "actor_rollout_ref.embodied.env.num_holdout_trials"):
        assert f"<code>{key}</code>" in html
    for key in ("val_kwargs.do_sample", "optim.lr", "train_batch_size", "experiment_name"):
        assert key not in html


def test_captions_explain_the_columns_that_there_are(folder: Path, made_up: Path, tmp_path: Path) -> None:
    of_training = ("Training: the first", "Kept: ", "Groups kept: ", "Time: ", "Validation: ")
    for page_text in (text(folder), text(folder, evaluated(tmp_path / "other"))):
        assert not any(part in page_text for part in of_training)
    assert "Training: the first" in text(made_up)
    assert all(part in text(made_up, folder) for part in ("Groups kept: ", "Time: "))


def test_films_that_nobody_asked_for_are_told_as_such(folder: Path, tmp_path: Path) -> None:
    key = "actor_rollout_ref.embodied.env.val_video_cfg.save_video"
    assert f"no films: none were asked for ({key}=true)." in text(folder)
    asked = evaluated(tmp_path / "asked", f"{key}=true")
    assert "no films: no episode has a video that is still there" in text(asked)


def test_two_evaluations_are_compared_trial_by_trial(tmp_path: Path) -> None:
    start = evaluated(tmp_path / "start", successes=("1100110000", "0000000000"))
    trained = evaluated(tmp_path / "trained", successes=("1111111000", "1111110000"))
    html = page(start, trained)
    assert "<h1>Evaluations compared</h1>" in html
    assert "A = start, B = trained" in html
    for pairs in (Pairs(4, 0, 3, 3), Pairs(0, 0, 6, 4), Pairs(4, 0, 9, 7)):
        assert "".join(f"<td>{cell}</td>" for cell in cells(pairs)) in html


def test_evaluations_of_other_trials_have_no_paired_difference(folder: Path, tmp_path: Path) -> None:
    longer = evaluated(tmp_path / "longer", successes=("101",))
    found = text(folder, longer)
    assert "No paired difference: " in found
    assert "they ran other trials" in found


def test_of_more_evaluations_than_letters_the_last_are_named(tmp_path: Path) -> None:
    folders = [evaluated(tmp_path / f"run{number:02}") for number in range(len(LETTERS) + 3)]
    found = text(*folders)
    assert "A = run00, Z = run25" in found
    assert "At most 25 are compared with the first; not run26, run27." in found
