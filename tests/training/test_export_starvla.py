"""A trained StarVLA policy, from a checkpoint of a run that began with a run folder to a folder that needs no other."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from siirl.config.schema import Config
from siirl.policies import load_policy
from siirl.policies.base import Sampling, ValueHeadSettings
from siirl.policies.starvla import StarVLA
from siirl.training.dcp import MODEL, save_tensors
from siirl.training.export import export
from tests.policies.observations import observe
from tests.policies.starvla.tiny import QWEN2_5, QWEN3, tiny_oft, tiny_starvla_folder
from tests.policies.tiny import train_value_head


def load(folder: Path, config: Config) -> Any:
    ref = config.actor_rollout_ref
    ref.model.path, ref.model.dtype, ref.embodied = str(folder), "fp32", StarVLA.describe(str(folder))
    return StarVLA.load(ref.model, ref.embodied, torch.device("cpu"), value_head=ValueHeadSettings.of(config))


@pytest.mark.parametrize(("base", "lora_rank"), [(QWEN2_5, 0), (QWEN2_5, 2), (QWEN3, 0), (QWEN3, 2)])
def test_a_trained_policy_comes_out_whole(base: str, lora_rank: int, tmp_path: Path) -> None:
    config = Config()
    config.critic.use_critic_model = True
    config.actor_rollout_ref.model.lora_rank = lora_rank
    start = tiny_starvla_folder(tmp_path, base)
    policy = load(start, config)
    train_value_head(policy)
    with torch.no_grad():
        policy.model.action_noise.log_std.fill_(-1.7)
        for name, parameter in policy.model.named_parameters():
            if ".lora_B." in name or name.endswith("fc2.weight"):
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    named = policy.model.named_parameters()
    (tmp_path / "global_step_3").mkdir()
    trained = {f"{MODEL}{name}": p.detach() for name, p in named if p.requires_grad}
    save_tensors(tmp_path / "global_step_3", trained)
    export(tmp_path / "global_step_3", start, tmp_path / "out", config)
    shutil.rmtree(start)
    names = {name for name, _ in tiny_oft(base).model.named_parameters()}
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == names
    config.actor_rollout_ref.model.lora_rank = 0
    exported, inputs = load(tmp_path / "out", config), policy.prepare(observe(2, wrist=True))
    for sampling in (Sampling(False, 1.0, [1, 2]), Sampling(True, 1.0, [1, 2])):
        found, expected = exported.act(inputs, sampling), policy.act(inputs, sampling)
        torch.testing.assert_close(found.actions, expected.actions, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-4)
    assert torch.equal(exported.model.action_noise.log_std, policy.model.action_noise.log_std)
    assert isinstance(load_policy(tmp_path / "out"), StarVLA)
