"""The policy's and the run's folder, spoilt in every way that a download or a crash spoils them."""

import json
import shutil
from pathlib import Path

import pytest

from siirl.client.doctor.folders import POINTER, check_policy, check_run_folder, weight_problems
from siirl.client.doctor.lines import Line, Question
from siirl.config.schema import Config
from siirl.training.run_folder import locked
from tests.policies.tiny import tiny_policy_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_policy_folder(tmp_path)


def asked(folder: Path, deep: bool = False) -> list[Line]:
    config = Config()
    ref = config.actor_rollout_ref
    ref.model.path = str(folder)
    return list(check_policy(Question(config, deep=deep)))


def test_a_whole_folder_passes_and_acts(folder: Path) -> None:
    (line,) = asked(folder)
    assert (line.level, line.about) == ("pass", "policy")
    whole, acts = asked(folder, deep=True)
    assert (whole.level, acts.level) == ("pass", "pass")
    assert "a grey frame makes it predict 8 actions of 7 dimensions" in acts.text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"cut", "bytes; its header says"),
        (POINTER + b"/spec/v1\noid sha256:0\nsize 5\n", "is a pointer of Git LFS"),
        (b"", "is no safetensors file"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00no json!", "is no safetensors file"),
    ],
)
def test_spoilt_weights_are_named(folder: Path, content: bytes, told: str) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if content == b"cut" else content)
    (line,) = asked(folder)
    assert line.level == "fail"
    assert str(file) in line.text
    assert told in line.text


def test_a_missing_shard_and_a_broken_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}))
    assert weight_problems(folder) == [f"{index.name} names model-00002-of-00002.safetensors, which is missing"]
    index.write_text("[]")
    assert "is no index of weights" in weight_problems(folder)[0]


def test_no_weights_and_no_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (line,) = asked(folder)
    assert line.level == "fail"
    assert "holds no safetensors" in line.text
    assert asked(tmp_path / "absent") == [], "the config's own line tells that"
    assert next(check_policy(Question(Config()))).level == "warn"
    assert list(check_policy(Question(Config(), named=False))) == []


def run_lines(folder: Path, mode: str = "auto") -> list[Line]:
    config = Config()
    config.trainer.default_local_dir, config.trainer.resume_mode = str(folder), mode
    return list(check_run_folder(Question(config)))


def test_a_new_run_and_one_that_would_resume(run: Path, tmp_path: Path) -> None:
    (line,) = run_lines(tmp_path / "new")
    assert line.text.endswith("starts anew")
    (line,) = run_lines(run)
    assert line.text == f"{run}: resumes after step 2; 2 checkpoints verify"
    (line,) = run_lines(run, "disable")
    assert "sets 2 checkpoints aside" in line.text


def test_broken_checkpoints(copy: Path) -> None:
    (copy / "global_step_2" / "trainer_state.json").write_text("{}")
    broken, resumes = run_lines(copy)
    assert broken.level == "warn"
    assert "the checkpoint of step 2 is broken: trainer_state.json does not have the SHA-256 sum" in broken.text
    assert resumes.text == f"{copy}: resumes after step 1; 1 checkpoint verifies"
    shutil.rmtree(copy / "global_step_1")
    (line,) = run_lines(copy)
    assert (line.level, "trainer.resume_mode=disable" in line.fix) == ("fail", True)


def test_a_run_folder_in_use(tmp_path: Path) -> None:
    with locked(tmp_path):
        (first,) = run_lines(tmp_path)
    assert first.level == "fail"
    assert "another process is running" in first.text
    assert [line.level for line in run_lines(tmp_path)] == ["pass"]
