"""A policy from nothing: its vision tower may start from a file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from siirl.client import sft as command
from siirl.policies.load import load_policy
from siirl.policies.prismatic.vision import VisionBackbone
from siirl.training.scratch import load_vision
from tests.data.lerobot.folders import write
from tests.policies.tiny import CONFIG
from tests.training.demos import START, make_demo


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_file(VisionBackbone(CONFIG).state_dict(), tmp_path / "vision.safetensors")
    return tmp_path / "vision.safetensors"


def test_tower_has_the_weights_of_the_file(file: Path) -> None:
    torch.manual_seed(4)
    tower = VisionBackbone(CONFIG)
    before = tower.featurizer.pos_embed.clone()
    load_vision(tower, file)
    assert not torch.equal(tower.featurizer.pos_embed, before)
    torch.manual_seed(3)
    assert torch.equal(tower.featurizer.pos_embed, VisionBackbone(CONFIG).featurizer.pos_embed)


def test_command_starts_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate of 0 leaves the tower as it was."""
    from siirl.client.sft import read_architecture

    write(tmp_path / "demos", [[make_demo(0), make_demo(1)]])
    tower = VisionBackbone(read_architecture(START / "architecture.json"))
    save_file(tower.state_dict(), tmp_path / "vision.safetensors")
    files = ["--architecture", str(START / "architecture.json"), "--vocabulary", str(START / "vocabulary.txt")]
    run = [
        "--demos",
        str(tmp_path / "demos"),
        "--suite",
        "libero_spatial",
        "--steps",
        "1",
        "--lr",
        "0",
        "--threads",
        "1",
    ]
    vision = ["--vision", str(tmp_path / "vision.safetensors"), "--out", str(tmp_path / "policy")]
    assert command.main([*files, *run, *vision]) == 0, capsys.readouterr().err
    learned = load_policy(str(tmp_path / "policy")).model.vision_backbone
    assert torch.equal(learned.featurizer.pos_embed, tower.featurizer.pos_embed)


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    other = {**CONFIG, "timm_model_args": [{**CONFIG["timm_model_args"][0], "embed_dim": 64}]}
    with pytest.raises(ValueError, match=r"--vision .*vision.safetensors holds another tower than the architecture's"):
        load_vision(VisionBackbone(other), file)
    with pytest.raises(ValueError, match=r"--vision .*nothing cannot be read"):
        load_vision(VisionBackbone(CONFIG), tmp_path / "nothing")
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"--vision .*vision.safetensors cannot be read"):
        load_vision(VisionBackbone(CONFIG), file)
