import os
import pickle
from pathlib import Path

import pytest
import torch

from siirl.training.dcp import load_tensors, read_tensors, save_tensors, saved_tensors


def test_tensors_come_back_in_place(tmp_path: Path) -> None:
    saved = {"a": torch.randn(3, 4), "b": torch.tensor(7), "c": torch.randn(2).bfloat16()}
    save_tensors(tmp_path, saved)
    loaded = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    load_tensors(tmp_path, loaded)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


def test_another_models_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    save_tensors(tmp_path, {"a": torch.zeros(3), "old": torch.zeros(1), "same": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"another model: 3 tensors differ") as error:
        load_tensors(tmp_path, {"a": torch.zeros(4), "new": torch.zeros(2), "same": torch.zeros(1)})
    assert "a: saved (3,), needed (4,)" in str(error.value)
    assert "new: saved nothing, needed (2,)" in str(error.value)
    assert "old: saved (1,), needed nothing" in str(error.value)


def test_a_folder_that_another_machine_made_elsewhere_is_not_made_here(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"on a file system that all machines share"):
        save_tensors(tmp_path / "elsewhere", {"a": torch.zeros(3)})
    assert not (tmp_path / "elsewhere").exists()


class Evil:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


def test_an_index_that_would_run_code_is_refused_before_it_does(tmp_path: Path) -> None:
    save_tensors(tmp_path, {"a": torch.zeros(3)})
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "proof")))
    with pytest.raises(ValueError, match=r"posix\.mkdir.*do not trust it"):
        load_tensors(tmp_path, {"a": torch.zeros(3)})
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("gone", [".metadata", "__0_0.distcp"])
def test_a_file_that_is_gone_is_an_os_error(tmp_path: Path, gone: str, caplog: pytest.LogCaptureFixture) -> None:
    save_tensors(tmp_path, {"a": torch.zeros(3)})
    tensors = saved_tensors(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone):
        read_tensors(tmp_path, tensors)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
