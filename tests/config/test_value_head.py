"""The value head by numbers alone: those of the network that is built."""

from pathlib import Path

import pytest
import torch

from siirl.config.estimate import GIB, estimate_rows, parameter_counts
from siirl.config.schema import Config
from siirl.config.shapes import published_shapes
from siirl.config.value_head import value_head_parameters, value_outputs
from siirl.policies.base import ValueHeadSettings
from siirl.policies.value_head import ValueHead, add_value_head
from tests.policies.tiny import adapt, tiny_policy


@pytest.fixture
def config() -> Config:
    config = Config()
    config.critic.use_critic_model = True
    return config


def test_one_value_for_each_thing_that_is_rewarded(config: Config) -> None:
    assert value_outputs(config) == 1
    config.algorithm.reward_type = "action_level"
    assert value_outputs(config) == config.actor_rollout_ref.embodied.action_chunks_len == 8
    config.critic.use_critic_model = False
    assert value_outputs(config) == value_head_parameters(config, published_shapes()) == 0


def test_the_published_policys_head_has_two_million_parameters(config: Config) -> None:
    with torch.device("meta"):
        head = ValueHead(4096, ValueHeadSettings("first_action", 1))
    size = sum(parameter.numel() for parameter in head.parameters())
    assert value_head_parameters(config, published_shapes()) == size == 4096 * 512 + 512 + 512 * 128 + 128 + 128 + 1


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("saved", [False, True])
def test_the_memory_estimate_counts_it_once(config: Config, lora_rank: int, saved: bool, tmp_path: Path) -> None:
    """Also where a head lies in the folder, which is no more of the policy and takes no adapters."""
    policy = tiny_policy()
    without = sum(parameter.numel() for parameter in policy.model.parameters())
    if saved:
        add_value_head(policy.model, ValueHeadSettings("first_action", 1), 32)
    policy.save(str(tmp_path))
    model = config.actor_rollout_ref.model
    model.path, model.lora_rank = str(tmp_path), lora_rank
    if lora_rank:
        adapt(policy, trained=False)
    add_value_head(policy.model, ValueHeadSettings("first_action", 1), 32)  # after the adapters, as in `load`
    whole = sum(parameter.numel() for parameter in policy.model.parameters())
    trained = sum(parameter.numel() for parameter in policy.model.parameters() if parameter.requires_grad)
    rows = {row.name: row.gib * GIB for row in estimate_rows(config)}
    assert rows["policy weights, float32"] == pytest.approx(4 * whole)
    assert rows["gradients, float32"] == pytest.approx(4 * trained)
    assert rows["AdamW's two moments, float32"] == pytest.approx(8 * trained)
    assert parameter_counts(config)[0] == without
