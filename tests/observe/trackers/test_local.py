"""Console lines and TensorBoard files."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from siirl.config.schema import Config
from siirl.observe.trackers.local import ConsoleTracker
from siirl.observe.trackers.make import make_trackers


def logging_to(*names: str, tensorboard_dir: str | None = None) -> Config:
    config = Config()
    config.trainer.logger, config.trainer.tensorboard_dir = list(names), tensorboard_dir
    return config


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_console_prints_one_line_of_the_telling_metrics(capsys: pytest.CaptureFixture) -> None:
    metrics = {"rollout/success_rate": 0.5, "val/success_rate": 0.625, "time/step": 63.2, "actor/obscure": 1}
    ConsoleTracker().log(12, metrics)
    assert capsys.readouterr().out == "step   12  success 0.50  val 0.62  time 63s\n"
    ConsoleTracker().log(12, {"actor/obscure": 1})
    assert capsys.readouterr().out == ""


def test_console_line_fits_80_columns(capsys: pytest.CaptureFixture) -> None:
    names = ("rollout/success_rate", "rollout/reward_mean", "val/success_rate")
    rates = dict.fromkeys(names, 1.0)
    ConsoleTracker().log(9999, rates | {"rollout/episode_length": 512, "actor/grad_norm": 0.0123, "time/step": 3600})
    assert len(capsys.readouterr().out) <= 81


def test_tensorboard_hides_what_a_resume_repeats(tmp_path: Path) -> None:
    config = logging_to("tensorboard")
    (tracker,) = make_trackers(config, tmp_path)
    for step in range(5):
        tracker.log(step, {"rollout/success_rate": step / 10})
    tracker.close()
    (resumed,) = make_trackers(config, tmp_path, first_step=2)
    resumed.log(3, {"rollout/success_rate": 0.9})
    resumed.close()
    assert scalars(tmp_path / "tensorboard", "rollout/success_rate") == [
        (step, pytest.approx(value)) for step, value in ((0, 0), (1, 0.1), (2, 0.2), (3, 0.9))
    ]


def test_tensorboard_folder_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path / "from_env"))
    make_trackers(logging_to("tensorboard"), tmp_path)[0].close()
    make_trackers(logging_to("tensorboard", tensorboard_dir=str(tmp_path / "key")), tmp_path)[0].close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from_env", "key"]


def test_unknown_tracker() -> None:
    with pytest.raises(
        ValueError, match=r"'tensorbord'; allowed: console, tensorboard, .*\. Did you mean 'tensorboard'"
    ):
        make_trackers(logging_to("console", "tensorbord"), "unused")
