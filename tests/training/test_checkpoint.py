import logging
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.multiprocessing as mp

from siirl.training.checkpoint import CheckpointFailed, CheckpointManager, Found, verify
from tests.killed import killed_at


def save(manager: CheckpointManager, step: int) -> None:
    """A checkpoint of two files whose content tells its step."""
    with manager.staging(step) as folder:
        (folder / "shard").write_bytes(bytes([step]) * 1000)
        (folder / "more").mkdir()
        (folder / "more" / "shard").write_text(str(step))
        manager.commit(step, {"config": {}, "sampler": [step]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def found_step(manager: CheckpointManager) -> int:
    found = manager.find("auto")
    assert found is not None
    assert found.state["sampler"] == [found.step]
    assert (found.path / "shard").read_bytes() == bytes([found.step]) * 1000
    return found.step


@pytest.fixture
def manager(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "run", keep=2)


def test_a_checkpoint_is_found_again_and_sha256sum_agrees(manager: CheckpointManager) -> None:
    assert manager.find("auto") is None
    save(manager, 3)
    path = manager.folder / "global_step_3"
    assert manager.find("auto") == Found(3, path, {"config": {}, "sampler": [3], "step": 3})
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)
    assert (path / "SHA256SUMS").read_text().count("\n") == 3
    assert (manager.folder / "latest_checkpointed_iteration.txt").read_text() == "3\n"


def test_old_checkpoints_are_removed_only_after_the_new_one_is_complete(manager: CheckpointManager) -> None:
    for step in (1, 2):
        save(manager, step)
    with manager.staging(10) as folder:
        (folder / "shard").write_text("x")
        assert manager.steps() == [1, 2]
        manager.commit(10, {})
    assert names(manager.folder) == ["global_step_10", "global_step_2", "latest_checkpointed_iteration.txt"]


def test_a_staging_that_is_not_committed_leaves_nothing(manager: CheckpointManager) -> None:
    save(manager, 1)
    with manager.staging(2) as folder:
        (folder / "shard").write_text("x")
    assert manager.steps() == [1]
    assert names(manager.folder) == ["global_step_1", "latest_checkpointed_iteration.txt"]


def test_shards_that_a_machine_wrote_to_a_disk_of_its_own_are_named(manager: CheckpointManager) -> None:
    save(manager, 1)
    with manager.staging(2) as folder:
        (folder / "__0_0.distcp").touch()
        message = r"__1_0\.distcp, __2_0\.distcp of the checkpoint of step 2 .* all machines share"
        with pytest.raises(FileNotFoundError, match=message):
            manager.commit(2, {}, [f"__{rank}_0.distcp" for rank in range(3)])
    assert names(manager.folder) == ["global_step_1", "latest_checkpointed_iteration.txt"]


def test_a_save_killed_anywhere_leaves_a_whole_checkpoint_and_the_next_one_works(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "run", keep=1)
    save(manager, 1)
    seen = set()
    for call in range(1, 100):
        shutil.rmtree(manager.folder)
        save(manager, 1)
        killed = killed_at(call, lambda: save(manager, 2))
        seen.add(found_step(manager))
        assert not [name for name in names(manager.folder) if name.endswith(".tmp") and name.startswith("global")]
        save(manager, 3)
        assert manager.steps() == [3]
        if not killed:
            break
    assert seen == {1, 2}
    assert call > 15


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BREAK: dict[str, Callable[[Path], object]] = {
    "shard does not have the SHA-256 sum": lambda path: flip(path / "shard"),
    "trainer_state.json does not have": lambda path: flip(path / "trainer_state.json"),
    "shard is missing": lambda path: (path / "shard").unlink(),
    "SHA256SUMS is missing": lambda path: (path / "SHA256SUMS").unlink(),
    "SHA256SUMS does not list": lambda path: (path / "SHA256SUMS").write_text(""),
}


@pytest.mark.parametrize("problem", BREAK)
def test_a_broken_checkpoint_is_named_and_the_one_before_is_taken(
    manager: CheckpointManager, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (4, 5):
        save(manager, step)
    BREAK[problem](manager.folder / "global_step_5")
    with caplog.at_level(logging.WARNING):
        assert found_step(manager) == 4
    assert "global_step_5" in caplog.text
    assert problem in caplog.text
    # The broken one neither stands in the way of the step's next save nor counts as one of those to keep.
    assert names(manager.folder / "set_aside_1") == ["global_step_5"]
    assert (manager.folder / "latest_checkpointed_iteration.txt").read_text() == "4\n"
    save(manager, 5)
    assert manager.steps() == [4, 5]


def test_when_none_verifies_the_run_does_not_silently_start_anew(manager: CheckpointManager) -> None:
    save(manager, 1)
    flip(manager.folder / "global_step_1" / "shard")
    with pytest.raises(ValueError, match=r"no checkpoint .* verifies .*shard does not have.*resume_mode=disable"):
        manager.find("auto")
    assert manager.steps() == [1]


def test_starting_anew_keeps_the_old_checkpoints_out_of_the_way(manager: CheckpointManager) -> None:
    for step in (1, 2):
        save(manager, step)
    assert manager.find("disable") is None
    assert manager.find("auto") is None
    assert verify(manager.folder / "set_aside_1" / "global_step_2") is None
    assert not (manager.folder / "latest_checkpointed_iteration.txt").exists()
    save(manager, 1)
    manager.find("disable")
    assert names(manager.folder) == ["set_aside_1", "set_aside_2"]


def test_a_new_start_keeps_the_metrics_of_the_run_before_beside_its_checkpoints(manager: CheckpointManager) -> None:
    save(manager, 1)
    (manager.folder / "metrics.jsonl").write_text("rows of the first run")
    (manager.folder / "config.yaml").write_text("what they are of")
    manager.find("auto")
    assert (manager.folder / "metrics.jsonl").exists(), "a run that goes on keeps writing to it"
    manager.find("disable")
    assert names(manager.folder / "set_aside_1") == ["config.yaml", "global_step_1", "metrics.jsonl"]
    (manager.folder / "metrics.jsonl").write_text("rows of a run that never saved")
    manager.find("auto")
    assert (manager.folder / "set_aside_2" / "metrics.jsonl").read_text() == "rows of a run that never saved"
    (manager.folder / "metrics.jsonl").touch()
    manager.find("auto")
    assert names(manager.folder) == ["metrics.jsonl", "set_aside_1", "set_aside_2"]


def test_a_named_checkpoint_rewinds_the_run(manager: CheckpointManager) -> None:
    for step in (1, 2):
        save(manager, step)
    found = manager.find("resume_path", str(manager.folder / "global_step_1"))
    assert found is not None
    assert found.step == 1
    assert manager.steps() == [1]
    assert found_step(manager) == 1


def test_a_named_checkpoint_of_another_folder_is_not_touched(manager: CheckpointManager, tmp_path: Path) -> None:
    save(manager, 7)
    other = CheckpointManager(tmp_path / "other", keep=2)
    found = other.find("resume_path", str(manager.folder / "global_step_7"))
    assert found is not None
    assert found.step == 7
    assert manager.steps() == [7]


def test_a_named_checkpoint_must_be_there_and_whole(manager: CheckpointManager) -> None:
    save(manager, 1)
    path = manager.folder / "global_step_1"
    with pytest.raises(ValueError, match=r"needs trainer\.resume_from_path"):
        manager.find("resume_path", None)
    with pytest.raises(ValueError, match=r"global_step_2 is no checkpoint .* no such folder"):
        manager.find("resume_path", str(manager.folder / "global_step_2"))
    flip(path / "shard")
    with pytest.raises(ValueError, match=r"global_step_1 is no checkpoint .* shard does not have the SHA-256"):
        manager.find("resume_path", str(path))


def _save_with_little_space(_: int, folder: Path) -> None:
    import torch

    from siirl.roles.trainer import Trainer
    from tests.training.updates import SmallPolicy, small_config

    manager = CheckpointManager(folder, keep=1)
    trainer: Trainer = Trainer(SmallPolicy(), small_config(), torch.device("cpu"))

    def save_weights(step: int) -> None:
        with manager.staging(step) as staged:
            trainer.save(staged)
            manager.commit(step, {})

    save_weights(1)
    for size, reason in ((20_000, "weights could not be written"), (0, "could not be written")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        with pytest.raises(CheckpointFailed, match=reason):
            save_weights(2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert names(folder) == ["global_step_1", "latest_checkpointed_iteration.txt"]
        assert verify(folder / "global_step_1") is None
    save_weights(3)
    assert manager.steps() == [3]


def test_a_file_that_does_not_fit_the_disk_leaves_the_old_checkpoint_and_the_run_alive(tmp_path: Path) -> None:
    mp.spawn(_save_with_little_space, args=(tmp_path,), nprocs=1)


def test_a_full_disk_while_committing_is_reported(manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    save(manager, 1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            CheckpointFailed, match=r"step 2 .* No space left on device; the previous ones are untouched"
        ):
            save(manager, 2)
    assert names(manager.folder) == ["global_step_1", "latest_checkpointed_iteration.txt"]


def test_other_errors_are_not_taken_for_a_full_disk(manager: CheckpointManager) -> None:
    with pytest.raises(ConnectionResetError), manager.staging(1):
        raise ConnectionResetError(104, "Connection reset by peer")
