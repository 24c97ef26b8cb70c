"""A trained policy with a value head, from a checkpoint to a folder that a next run goes on from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from siirl.config.schema import Config
from siirl.config.value_head import FILE
from siirl.policies.base import POLICIES, ValueHeadSettings
from siirl.training.dcp import MODEL, save_tensors
from siirl.training.export import export, export_adapters
from tests.policies.observations import observe
from tests.policies.tiny import tiny_policy, tiny_policy_folder, train_value_head

KIND = "openvla-oft"


def load(folder: Path, config: Config) -> Any:
    ref = config.actor_rollout_ref
    ref.model.path, ref.model.dtype = str(folder), "fp32"
    return POLICIES.get(KIND).load(
        ref.model, ref.embodied, torch.device("cpu"), value_head=ValueHeadSettings.of(config)
    )


@pytest.fixture
def config() -> Config:
    config = Config()
    config.actor_rollout_ref.embodied.embodied_type = KIND
    config.critic.use_critic_model, config.algorithm.reward_type = True, "action_level"
    return config


def checkpoint_of(policy: Any, folder: Path) -> Path:
    """What the update saves of a model: all that is trained."""
    folder.mkdir()
    named = policy.model.named_parameters()
    save_tensors(folder, {f"{MODEL}{name}": p.detach() for name, p in named if p.requires_grad})
    return folder


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_the_head_comes_along_in_its_own_file(config: Config, lora_rank: int, tmp_path: Path) -> None:
    start = tiny_policy_folder(tmp_path)
    config.actor_rollout_ref.model.lora_rank = lora_rank
    policy = load(start, config)
    train_value_head(policy)
    for name, parameter in policy.model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    checkpoint = checkpoint_of(policy, tmp_path / "global_step_3")
    export(checkpoint, start, tmp_path / "out", config)
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == tiny_policy().model.state_dict().keys()
    config.actor_rollout_ref.model.lora_rank = 0
    exported = load(tmp_path / "out", config)
    inputs = policy.prepare(observe(2))
    torch.testing.assert_close(exported.value(inputs), policy.value(inputs), rtol=1e-5, atol=1e-5)
    assert policy.value(inputs).shape == (2, 8)
    head = exported.model.value_head.state_dict()
    assert all(torch.equal(tensor, head[name]) for name, tensor in policy.model.value_head.state_dict().items())


def test_adapters_alone_are_adapters_alone(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    start = tiny_policy_folder(tmp_path)
    config.actor_rollout_ref.model.lora_rank = 2
    checkpoint = checkpoint_of(load(start, config), tmp_path / "global_step_3")
    (file,) = export_adapters(checkpoint, start, tmp_path / "out", config)
    assert all(".lora_" in name for name in load_file(file))
    assert not (tmp_path / "out" / FILE).exists()
