"""The folder of docs/checkpoints.md's walk-through is laid out like a published one and loads as such."""

import json
from pathlib import Path

import pytest

from examples.bring_your_checkpoint.synthetic import write
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.base import POLICIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "synthetic"
    write(made)
    return made


def test_it_is_laid_out_like_a_published_folder(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert not {"embodied_type", "num_images_in_input", "action_chunks_len"} & set(config), "published ones do not tell"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) > 1
    assert all((folder / shard).is_file() for shard in shards)


@pytest.mark.parametrize(("kind", "chunk"), [("openvla-oft", 8), ("openvla", 1)])
def test_both_classes_take_it(folder: Path, kind: str, chunk: int) -> None:
    embodied = EmbodiedConfig(embodied_type=kind, action_chunks_len=chunk, unnorm_key="libero_spatial")
    tokens = POLICIES.get(kind).longest_prompt(ModelConfig(path=str(folder)), embodied, ["pick it up"])
    assert tokens > len("pick it up"), "a token per character, and the prompt around them"
