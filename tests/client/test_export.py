"""Taking the policy out of a run: bit for bit, and what is refused."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from siirl.client import export as command
from siirl.client import main_dag
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic import writing
from siirl.training import export
from siirl.training.parameters import saved_parameters
from tests.policies.test_openvla_oft import observe
from tests.policies.tiny import tiny_policy_folder
from tests.workers.runs import weights_of


@pytest.fixture(scope="module")
def out(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export."""
    folder = tmp_path_factory.mktemp("out") / "policy"
    assert command.main([str(run), str(folder)]) == 0
    return folder


def trained(run: Path, step: int) -> dict[str, torch.Tensor]:
    """The checkpoint's parameters under their published names."""
    tensors = weights_of(run, step)
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}


def load(folder: Path) -> OpenVLAOFT:
    return OpenVLAOFT.load(ModelConfig(path=str(folder), dtype="fp32"), EmbodiedConfig(), torch.device("cpu"))


def same_bits(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and torch.equal(left[name].view(torch.int32), right[name].view(torch.int32))
        for name in left
    )


def test_every_tensor_has_the_checkpoints_bits_and_its_published_name(run: Path, start: Path, out: Path) -> None:
    weights, before = load_file(out / "model.safetensors"), load_file(start / "model.safetensors")
    assert weights.keys() == before.keys()
    assert same_bits(weights, trained(run, 2))
    assert same_bits(dict(load(out).model.state_dict()), trained(run, 2))
    assert not same_bits(weights, before), "the run has trained"


def test_the_logits_are_those_of_the_trained_policy(run: Path, start: Path, out: Path) -> None:
    policy, exported = load(start), load(out)
    inputs = policy.prepare(observe(2))
    before = policy.bin_logits(inputs)
    policy.model.load_state_dict(trained(run, 2))
    after = exported.bin_logits(exported.prepare(observe(2)))
    assert torch.equal(after, policy.bin_logits(inputs))
    assert not torch.equal(after, before)


def test_the_files_around_the_weights_are_the_start_policys(start: Path, out: Path) -> None:
    names = {
        "config.json",
        "dataset_statistics.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "modeling_prismatic.py",
    }
    assert {file.name for file in out.iterdir()} == names | {"model.safetensors", "README.md"}
    for name in names:
        assert (out / name).read_bytes() == (start / name).read_bytes()


def test_an_earlier_step(run: Path, tmp_path: Path) -> None:
    assert command.main([str(run), str(tmp_path), "--step", "1"]) == 0
    assert same_bits(load_file(tmp_path / "model.safetensors"), trained(run, 1))


def test_the_command_to_train_on_runs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main([str(run), "my policy"]) == 0
    *_, train_on, publish = capsys.readouterr().out.splitlines()
    assert publish.split(maxsplit=1) == ["publish", "hf upload YOUR_NAME/YOUR_MODEL 'my policy'"]
    program, command_, *arguments = shlex.split(train_on.removeprefix("  train on "))
    assert (program, command_) == ("siirl", "train")
    assert main_dag.main([*arguments, "trainer.total_training_steps=1"]) == 0
    assert not same_bits(trained(tmp_path / "runs/next", 1), trained(run, 2))
    state = json.loads((tmp_path / "runs/next/global_step_1/trainer_state.json").read_text())
    assert state["config"]["actor_rollout_ref"]["model"]["path"] == "my policy"


@pytest.mark.parametrize("folder", ["models/synthetic", "OUT_DIR"])
def test_the_examples_in_the_documentation_act(out: Path, folder: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if f'"{folder}"' in block)
    example = example.replace(folder, str(out))
    seen = {"main_images": np.zeros((1, 256, 256, 3), np.uint8), "states": np.zeros((1, 8), np.float32)}
    exec(compile(example, "docs/checkpoints.md", "exec"), seen)  # noqa: S102  (our own page)
    assert seen["chunk"].actions.shape == (1, 8, 7)


def test_large_weights_are_split(run: Path, start: Path, tmp_path: Path) -> None:
    limit = 150_000
    saved = saved_parameters(run / "global_step_2")
    files = writing.write_weights(saved.tensors, saved.read, tmp_path, shard_bytes=limit)
    export.copy_other_files(start, tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    expected = trained(run, 2)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    assert index["weight_map"].keys() == expected.keys()
    assert files[1].name == f"model-00002-of-{len(files):05}.safetensors"
    for file in files:
        shard = load_file(file)
        assert {name for name, home in index["weight_map"].items() if home == file.name} == shard.keys()
        assert len(shard) == 1 or sum(tensor.nbytes for tensor in shard.values()) <= limit
    assert same_bits(dict(load(tmp_path).model.state_dict()), expected)


def test_a_broken_newest_checkpoint_gives_the_one_before(
    copy: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    next((copy / "global_step_2").glob("*.distcp")).write_bytes(b"")
    assert command.main([str(copy), str(tmp_path / "out")]) == 0
    assert "global_step_2 is broken" in caplog.text
    assert same_bits(load_file(tmp_path / "out" / "model.safetensors"), trained(run, 1))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a refused export prints."""
    assert command.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_checkpoints_that_are_not_there_are_refused(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "it has those of step 1, 2" in refused(capsys, copy, out, "--step", 3)
    (copy / "global_step_1" / "trainer_state.json").write_text("{}")
    error = refused(capsys, copy, out, "--step", 1)
    assert "trainer_state.json does not have the SHA-256 sum" in error
    (copy / "global_step_2" / "SHA256SUMS").unlink()
    assert "no checkpoint in" in refused(capsys, copy, out)
    for folder in (tmp_path, tmp_path / "absent"):
        assert f"RUN_DIR {folder} has no checkpoint" in refused(capsys, folder, out)
    assert not out.exists()


def test_a_folder_with_something_in_it_is_left_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file"):
        assert f"OUT_DIR {place} exists and is not an empty folder" in refused(capsys, run, place)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_run_without_adapters_has_none_to_export(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, run, tmp_path / "out", "--adapters")
    assert "has no adapters (actor_rollout_ref.model.lora_rank=0); export the whole policy" in error
    assert not (tmp_path / "out").exists()


def test_the_start_policy_may_have_moved_but_not_changed(
    run: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    assert f"the policy folder {gone}" in refused(capsys, run, tmp_path / "out", "--policy", gone)
    other = tiny_policy_folder(tmp_path, seed=6)
    assert "holds other weights than those" in refused(capsys, run, tmp_path / "out", "--policy", other)
    moved = Path(shutil.copytree(start, tmp_path / "moved"))
    assert command.main([str(run), str(tmp_path / "out"), "--policy", str(moved)]) == 0


def test_a_policy_folder_that_is_gone_is_named(
    copy: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start.rename(start.with_name("elsewhere"))
    try:
        error = refused(capsys, copy, tmp_path / "out")
    finally:
        start.with_name("elsewhere").rename(start)
    assert f"{start}, which the run started from (its actor_rollout_ref.model.path), is gone" in error
    assert "--policy" in error


def test_whoever_may_read_the_config_may_read_the_weights(out: Path) -> None:
    assert (out / "model.safetensors").stat().st_mode == (out / "config.json").stat().st_mode


def test_a_full_disk_leaves_nothing_behind(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        (tmp_path / "out" / "model.safetensors").write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_weights_file", full)
    error = refused(capsys, run, tmp_path / "out")
    assert "No space left on device" in error
    assert "free disk space" in error
    assert not (tmp_path / "out").exists()


def test_a_policy_that_its_class_does_not_accept_is_not_left_there(
    run: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Path(shutil.copytree(start, tmp_path / "changed"))
    architecture = json.loads((changed / "config.json").read_text())
    architecture["text_config"]["num_hidden_layers"] = 1
    (changed / "config.json").write_text(json.dumps(architecture))
    (tmp_path / "out").mkdir()
    assert "do not fit its config.json" in refused(capsys, run, tmp_path / "out", "--policy", changed)
    assert list((tmp_path / "out").iterdir()) == []


def test_as_a_program_without_ray_or_simulator(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from siirl.client.export import main; code = main(); "
        "assert not {'ray', 'mujoco', 'robosuite', 'libero'} & sys.modules.keys(); sys.exit(code)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, "-c", code, str(run), str(tmp_path / "out")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the policy after step 2 of" in done.stdout
    assert same_bits(load_file(tmp_path / "out" / "model.safetensors"), trained(run, 2))
