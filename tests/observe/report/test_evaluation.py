"""The page of an evaluation: what it is of, and nothing of what only training has."""

from pathlib import Path

import pytest

from siirl.config.evaluation import meaning
from siirl.config.load import config_to_yaml, load_config
from siirl.observe.episodes import EpisodeLog, EpisodeRow
from siirl.observe.report import REPORT, write_report
from siirl.observe.results import write_results
from siirl.training.checkpoint import CONFIG
from tests.observe.episodes import summary
from tests.observe.report.test_markup import Seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a checkpoint, evaluated with the config of its run."""
    return evaluated(tmp_path / "night", "evaluate.split=holdout")


def evaluated(folder: Path, *overrides: str) -> Path:
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
    write_results(folder, {"policy": "/runs/night/global_step_4", "mode": mode, "settings": settings})
    log = EpisodeLog(folder)
    for success in (True, False):
        log.add(EpisodeRow.of(summary(success), 0, "eval"))
    log.close()
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
