"""The folders of docs/starvla.md's walk-through are laid out like published ones and load as such."""

from pathlib import Path

import pytest
import torch
import yaml

from examples.starvla.synthetic import BASE, RUN, write
from siirl.policies import load_policy
from siirl.policies.base import Sampling
from tests.policies.observations import observe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "synthetic"
    write(made)
    return made


def test_they_are_laid_out_like_published_ones(folder: Path) -> None:
    assert not list((folder / BASE).glob("*.safetensors")), "the checkpoint has all weights"
    config = yaml.safe_load((folder / RUN / "config.yaml").read_text())
    assert Path(config["framework"]["qwenvl"]["base_vlm"]) == (folder / BASE).absolute()
    weights = torch.load(folder / RUN / "checkpoints" / "steps_0_pytorch_model.pt", weights_only=True)
    assert {name.partition(".")[0] for name in weights} == {"qwen_vl_interface", "action_model"}


def test_the_policy_takes_them(folder: Path) -> None:
    policy = load_policy(folder / RUN, "starvla", num_images=1)
    chunk = policy.act(policy.prepare(observe(2)), Sampling(False, 1.0, [0, 0]))
    assert chunk.actions.shape == (2, 8, 7)
    assert set(chunk.actions[..., -1].flatten().tolist()) <= {0.0, 1.0}
