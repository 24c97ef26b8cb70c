"""A world model's folder: written and read, in both layouts, and what is missing or wrong in one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from siirl.envs.world_model.weights import (
    WorldModelFiles,
    read_reward_model,
    read_statistics,
    read_transformer,
    read_vae,
    save_world_model,
)
from tests.envs.world_model.parts import STATISTICS, small_parts

CPU = torch.device("cpu")
F32 = torch.float32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small world model in the published layout."""
    save_world_model(tmp_path / "wm", *small_parts(), STATISTICS)
    return tmp_path / "wm"


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def test_what_was_saved_is_read(folder: Path) -> None:
    files = WorldModelFiles.find(folder)
    transformer, vae, reward_model = small_parts()
    assert equal(read_transformer(files.config, files.transformer, F32, CPU), transformer)
    assert equal(read_vae(files.vae, F32, CPU), vae)
    assert equal(read_reward_model(files.reward_model, CPU), reward_model)
    assert read_vae(files.vae, torch.bfloat16, CPU).quant_conv.weight.dtype == torch.bfloat16
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {"model-00001.safetensors"}
    assert set(index["weight_map"]) == set(transformer.state_dict())


def test_loaded_weights_outlive_their_file(folder: Path) -> None:
    """A training that writes the folder anew must not change a model that was read from it."""
    files = WorldModelFiles.find(folder)
    model = read_transformer(files.config, files.transformer, F32, CPU)
    before = model.t_block[1].weight.clone()
    file = folder / "model-00001.safetensors"
    file.write_bytes(b"\0" * file.stat().st_size)
    assert torch.equal(model.t_block[1].weight, before)


def test_shards_and_the_older_layout(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    inner = old / "best_wm_ckpt" / "base_policy"
    (inner / "model").mkdir(parents=True)
    for name in ("vae", "resnet_rm.pth"):
        (folder / name).rename(old / name)
    (folder / "dataset_statistics.json").rename(inner / "dataset_statistics.json")
    (folder / "config.json").rename(inner / "model" / "config.json")
    tensors = load_file(folder / "model-00001.safetensors")
    shards = {f"model-0000{i + 1}.safetensors": list(tensors)[i::2] for i in range(2)}
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, inner / "model" / shard)
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    (inner / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    files = WorldModelFiles.find(old)
    assert files.statistics == inner / "dataset_statistics.json"
    assert equal(read_transformer(files.config, files.transformer, F32, CPU), small_parts()[0])
    (inner / "model" / "model-00002.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"base_policy/model has no model-00002\.safetensors, which .*index\.json names"
    ):
        read_transformer(files.config, files.transformer, F32, CPU)


def test_parts_in_other_places(folder: Path, tmp_path: Path) -> None:
    (folder / "vae").rename(tmp_path / "my_vae")
    (folder / "resnet_rm.pth").rename(tmp_path / "rm.pth")
    with pytest.raises(ValueError, match=r"no vae/config\.json in .*; no vae/.* in .*; no resnet_rm\.pth in "):
        WorldModelFiles.find(folder)
    shard = folder / "model-00001.safetensors"
    files = WorldModelFiles.find(folder, transformer=shard, vae=tmp_path / "my_vae", reward_model=tmp_path / "rm.pth")
    assert (files.transformer, files.vae) == (folder, tmp_path / "my_vae")


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "resnet_rm.pth",
        "dataset_statistics.json",
    ],
)
def test_a_missing_file_is_named_with_its_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"no (the transformer's )?{re.escape(name)} in {re.escape(str(folder))}"):
        WorldModelFiles.find(folder)


def test_missing_weights_and_folders(folder: Path) -> None:
    (folder / "model-00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"wm has no model-00001\.safetensors, which model\.safetensors\.index\.json"):
        read_transformer(folder / "config.json", folder, F32, CPU)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=r"no the transformer's model\.safetensors\.index\.json or model-00001"):
        WorldModelFiles.find(folder)
    with pytest.raises(ValueError, match="there is no world model folder"):
        WorldModelFiles.find(folder / "absent")


def test_older_names_of_the_autoencoders_attention(folder: Path) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): tensor for key, tensor in tensors.items()}
    assert any(".query." in name for name in tensors)
    save_file(tensors, file)
    assert equal(read_vae(folder / "vae", F32, CPU), small_parts()[1])


def test_parameters_that_nothing_reads_may_be_missing_and_no_others(folder: Path) -> None:
    file = folder / "model-00001.safetensors"
    tensors = load_file(file)
    idle = [name for name in tensors if "cross_attn" in name or name.startswith(("y_embedder", "fps_embedder"))]
    save_file({name: tensor for name, tensor in tensors.items() if name not in idle}, file)
    model = read_transformer(folder / "config.json", folder, F32, CPU)
    assert torch.equal(model.rope.freqs, tensors["rope.freqs"])
    save_file({name: tensor for name, tensor in tensors.items() if name != "rope.freqs"} | {"x": torch.ones(1)}, file)
    with pytest.raises(ValueError, match=r"do not fit their config \(missing: rope\.freqs \(1\); surplus: x \(1\)\)"):
        read_transformer(folder / "config.json", folder, F32, CPU)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "model-00001.safetensors").write_bytes(b"abc"), "is no safetensors file, or cut short"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "holds list, not a JSON object"),
        (lambda f: (f / "config.json").write_text('{"hidden_size": 64, "num_heads": 2}'), "do not fit their config"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "has no 'weight_map'"),
    ],
)
def test_a_damaged_transformer_is_refused(folder: Path, damage: Callable[[Path], object], told: str) -> None:
    damage(folder)
    with pytest.raises(ValueError, match=told):
        read_transformer(folder / "config.json", folder, F32, CPU)


def test_a_classifier_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "resnet_rm.pth"
    state = small_parts()[2].state_dict()
    torch.save({"model_state_dict": state, "epoch": 3}, file)
    assert read_reward_model(file, CPU).widths == (4, 8)
    torch.save({"fc.weight": torch.ones(2)}, file)
    with pytest.raises(ValueError, match=r"no parameters of a residual network named net"):
        read_reward_model(file, CPU)
    torch.save({"run": Path("code")}, file)
    with pytest.raises(ValueError, match="holds more than tensors, or is cut short"):
        read_reward_model(file, CPU)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="holds more than tensors, or is cut short"):
        read_reward_model(file, CPU)


def test_statistics(tmp_path: Path) -> None:
    file = tmp_path / "dataset_statistics.json"
    for content in (STATISTICS, {"libero_spatial": STATISTICS}):
        file.write_text(json.dumps(content))
        found = read_statistics(file)
        ends = np.float32([[-1.0] * 6 + [-2.0], [1.0] * 6 + [3.0], [2.0] * 6 + [0.5]])
        np.testing.assert_allclose(found.normalise(ends), [[-1] * 7, [1] * 7, [2] * 6 + [0]])
    for content, told in (
        ({}, "must hold 'action'"),
        ({"action": {"q01": [1.0]}}, "must hold 'action'"),
        ({"action": {"q01": [1.0], "q99": [1.0]}}, "every q01 must be a number below its q99"),
        ({"action": {"q01": [1.0], "q99": [2.0, 3.0]}}, "every q01 must be a number below its q99"),
        ({"action": {"q01": [float("nan")], "q99": [1.0]}}, "every q01 must be a number below its q99"),
        ({"action": {"q01": [0.0], "q99": [float("inf")]}}, "every q01 must be a number below its q99"),
        (
            {"libero_spatial": STATISTICS, "libero_goal": STATISTICS},
            "holds statistics of libero_spatial, libero_goal; ",
        ),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=told):
            read_statistics(file)
