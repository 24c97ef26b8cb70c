"""Resuming and saving around the loop: broken checkpoints, other checkpoints, disks that are full."""

import errno
import shutil
from pathlib import Path

import pytest

from siirl.client.main_dag import main
from siirl.config.schema import Config
from siirl.dag.run import train
from siirl.dag.session import Session, total_steps
from siirl.training.checkpoint import CheckpointManager
from tests.workers.runs import (
    EXACT,
    INLINE,
    TOY,
    assert_same_weights,
    command_line,
    configured,
    log_of,
    opened,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("toy")


def arguments(folder: Path, policy: Path, steps: int, **trainer: object) -> list[str]:
    more = {f"trainer.{key}": value for key, value in trainer.items()}
    return command_line(folder, policy, TOY, EXACT, INLINE, {"trainer.total_training_steps": steps}, more)


@pytest.fixture(scope="module")
def three_steps(toy: Path, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    assert main(arguments(folder, policy, 3)) == 0
    return folder


@pytest.fixture
def copy(three_steps: Path, tmp_path: Path) -> Path:
    """The run folder after three steps, to be spoilt."""
    return Path(shutil.copytree(three_steps, tmp_path / "run"))


def test_a_broken_newest_checkpoint_falls_back_by_one_with_a_warning(
    three_steps: Path, copy: Path, policy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = next((copy / "global_step_3").glob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert main(arguments(copy, policy, 3)) == 0
    assert "global_step_3 is broken" in caplog.text
    assert [row["step"] for row in log_of(copy)] == [1, 2, 3]
    assert_same_weights(weights_of(copy, 3), weights_of(three_steps, 3))


def test_no_checkpoint_that_verifies_is_refused(
    three_steps: Path, copy: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in copy.glob("global_step_*/*.distcp"):
        shard.unlink()
    assert main(arguments(copy, policy, 4)) == 2
    error = capsys.readouterr().err
    assert "no checkpoint in" in error
    assert "trainer.resume_mode=disable" in error
    assert "Traceback" not in error


def test_a_crash_between_checkpoint_and_log_loses_no_row(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, opened(configured(arguments(tmp_path, policy, 1))) as (session, executor, _):
        patched.setattr(Session, "end_step", lambda self, metrics: None)
        train(executor.config, session, executor)
    assert log_of(tmp_path) == []
    assert main(arguments(tmp_path, policy, 2)) == 0
    first, second = log_of(tmp_path)
    assert (first["step"], second["step"]) == (1, 2)
    assert second.keys() - first.keys() == {"checkpoint/failed"}


def test_resuming_from_an_earlier_step_repeats_the_rest(three_steps: Path, copy: Path, policy: Path) -> None:
    resume = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={copy}/global_step_1"]
    assert main([*arguments(copy, policy, 2), *resume]) == 0
    assert [row["step"] for row in log_of(copy)] == [1, 2]
    assert_same_weights(weights_of(copy, 2), weights_of(three_steps, 2))
    assert (copy / "set_aside_1" / "global_step_3").is_dir()


def test_a_finished_run_says_that_nothing_is_left(
    three_steps: Path, copy: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(copy, policy, 3)) == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_another_seed_is_refused(
    three_steps: Path, copy: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(copy, policy, 4, seed=1)) == 2
    assert "trainer.seed=1: allowed: 0, as in the run of" in capsys.readouterr().err


def test_a_full_disk_while_committing_keeps_the_old_checkpoint(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit = CheckpointManager.commit

    def full_in_step_2(self: CheckpointManager, step: int, state: dict, written: list[str]) -> Path:
        if step == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return commit(self, step, state, written)

    monkeypatch.setattr(CheckpointManager, "commit", full_in_step_2)
    with opened(configured(arguments(tmp_path, policy, 2))) as (session, executor, _):
        outcome = train(executor.config, session, executor)
    assert outcome.last_step == 2
    assert [row["checkpoint/failed"] for row in log_of(tmp_path)] == [0, 1]
    assert [path.name for path in tmp_path.glob("global_step_*")] == ["global_step_1"]
    assert "free disk space" in caplog.text


@pytest.mark.parametrize(
    ("epochs", "prompts", "batch", "steps", "total"),
    [(1, 10, 4, None, 2), (3, 10, 4, None, 7), (1, 3, 4, None, 1), (1, 10, 4, 9, 9)],
)
def test_total_steps(epochs: int, prompts: int, batch: int, steps: int | None, total: int) -> None:
    config = Config()
    config.trainer.total_epochs, config.data.train_batch_size = epochs, batch
    config.trainer.total_training_steps = steps
    assert total_steps(config, prompts) == total
