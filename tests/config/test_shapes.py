"""Shapes of parameters, without the parameters."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.published import OPENVLA_7B
from benchmarks.starvla import QWEN2_5_VL_3B, STATISTICS, WORDS
from siirl.config.shapes import folder_shapes, published_shapes, read_shapes
from siirl.policies.prismatic.causal import PrismaticCausal
from siirl.training.scratch_starvla import new_starvla


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, (5).to_bytes(8, "little") + b"[1,2]"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a safetensors file"):
        read_shapes(file)


def test_shapes_come_from_the_header(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"a": "b"}, "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}})
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    assert read_shapes(file) == {"x": [2, 3]}


def test_every_shard_of_a_folder_counts(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file({f"w{number}": torch.zeros(number, 3)}, tmp_path / f"model-{number}.safetensors")
    assert folder_shapes(tmp_path) == {"w1": [1, 3], "w2": [2, 3]}
    assert folder_shapes(tmp_path / "elsewhere") == {}


def test_published_shapes_are_those_of_the_network() -> None:
    with torch.device("meta"):
        network = {name: list(tensor.shape) for name, tensor in PrismaticCausal(OPENVLA_7B, 7).state_dict().items()}
    shapes = published_shapes()
    assert {name: network.get(name) for name in shapes} == shapes
    left = {name: shape for name, shape in network.items() if name not in shapes}
    assert sum(map(math.prod, left.values())) < 0.003 * sum(map(math.prod, network.values()))
    assert not [
        name for name, shape in left.items() if len(shape) > 1 and ("model.layers" in name or ".blocks." in name)
    ]


def test_published_shapes_of_qwen_oft_are_those_of_the_network() -> None:
    with torch.device("meta"):
        policy = new_starvla(QWEN2_5_VL_3B, WORDS, "franka", STATISTICS)
    network = {name: list(tensor.shape) for name, tensor in policy.model.state_dict().items()}
    network.pop("qwen_vl_interface.model.lm_head.weight")  # it is the embedding
    shapes = published_shapes("starvla")
    assert {name: network.get(name) for name in shapes} == shapes
    left = {name: shape for name, shape in network.items() if name not in shapes}
    assert sum(map(math.prod, left.values())) < 0.003 * sum(map(math.prod, network.values()))
    assert not [name for name, shape in left.items() if len(shape) > 1]
