"""What ends an export early is called by its name, and leaves nothing behind."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from siirl.client import export as command
from siirl.policies.prismatic import writing
from siirl.training import checkpoint, export, parameters
from tests.client.test_export import refused


@pytest.mark.parametrize("existed", [True, False])
def test_an_interrupted_export_leaves_nothing_behind(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    def interrupt(weights: dict[str, torch.Tensor], file: Path, **named: Any) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write_weights_file", interrupt)
    if existed:
        (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        command.main([str(run), str(tmp_path / "out")])
    assert (tmp_path / "out").exists() == existed
    assert not existed or not any((tmp_path / "out").iterdir())


def test_a_place_where_no_folder_can_be_made_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert f"{out} could not be written" in refused(capsys, run, out)


@pytest.mark.parametrize("before", ["_sha256", "open_verified", "saved_tensors", "read_tensors"])
def test_a_checkpoint_that_is_pruned_meanwhile_is_not_called_a_full_disk(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    module = parameters if hasattr(parameters, before) else checkpoint
    step = getattr(module, before)

    def pruned_first(*arguments: Any) -> Any:
        shutil.rmtree(copy / "global_step_2", ignore_errors=True)
        return step(*arguments)

    monkeypatch.setattr(module, before, pruned_first)
    error = refused(capsys, copy, tmp_path / "out")
    assert "could not be read" in error
    assert "run the command again" in error
    assert "disk space" not in error
    assert not (tmp_path / "out").exists()


def test_a_start_policy_that_cannot_be_read_is_not_called_a_full_disk(
    run: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = Path(shutil.copytree(start, tmp_path / "moving"))
    write = export.write_weights

    def moved_after(*arguments: Any) -> list[Path]:
        files = write(*arguments)
        shutil.rmtree(moving)
        return files

    monkeypatch.setattr(export, "write_weights", moved_after)
    error = refused(capsys, run, tmp_path / "out", "--policy", moving)
    assert f"{moving} could not be read" in error
    assert "--policy" in error
    assert not (tmp_path / "out").exists()
