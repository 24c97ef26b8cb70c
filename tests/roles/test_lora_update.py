"""The update of a policy with LoRA adapters: what it changes, what it keeps in memory, and what it writes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siirl.config.schema import Config
from siirl.data.trajectory import Trajectory
from siirl.roles.trainer import Trainer
from siirl.training.dcp import MODEL, saved_tensors
from tests.policies.tiny import adapt, tiny_openvla, tiny_policy
from tests.training.updates import play, small_config, targets, weights

CPU = torch.device("cpu")
CHUNKS = [3, 1, 4, 2]
ADVANTAGES = np.array([1.0, -1.0, 0.5, -0.7])


def fetch(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return list(trajectories)


def config() -> Config:
    settings = small_config(ppo_mini_batch_size=1)
    settings.actor_rollout_ref.actor.optim.lr = 1e-2
    return settings


def started(
    build: Callable[..., Any] = tiny_policy, trained: bool = False, **lora: Any
) -> tuple[Any, Trainer[Trajectory]]:
    policy = build()
    adapt(policy, trained=trained, **lora)
    return policy, Trainer(policy, config(), CPU)


def update(policy: Any, trainer: Trainer[Trajectory], seed: int = 0) -> dict[str, float]:
    episodes = play(policy, config(), CHUNKS, seed, image_size=40, state_dim=8)
    return trainer.update(episodes, CHUNKS, targets(ADVANTAGES), fetch)


@pytest.mark.parametrize("build", [tiny_policy, tiny_openvla])
def test_only_adapters_are_trained_and_only_they_have_optimizer_state(build: Callable[..., Any]) -> None:
    policy, trainer = started(build)
    before = weights(policy)
    metrics = update(policy, trainer)
    assert metrics["actor/rollout_train_logprob_diff"] < 1e-5
    assert metrics["actor/optimizer_steps"] == 2
    changed = {name for name, tensor in weights(policy).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(".lora_" in name for name in changed)
    adapters = [parameter for name, parameter in policy.model.named_parameters() if ".lora_" in name]
    assert trainer.optimizer.state.keys() == set(adapters)
    assert all(p.grad is None for p in policy.model.parameters())


def test_a_checkpoint_holds_adapters_alone_and_resuming_ends_in_the_same_bits(tmp_path: Path) -> None:
    policy, trainer = started()
    for seed in range(3):
        update(policy, trainer, seed)

    first, trainer = started()
    for seed in range(2):
        update(first, trainer, seed)
    trainer.save(tmp_path)
    names = {name.removeprefix(MODEL) for name in saved_tensors(tmp_path) if name.startswith(MODEL)}
    assert names == {name for name in first.model.state_dict() if ".lora_" in name}

    second, resumed = started(trained=True)  # other adapters than those that the checkpoint brings
    resumed.load(tmp_path)
    update(second, resumed, seed=2)
    expected = weights(policy)
    for name, tensor in weights(second).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("other", [{"lora_rank": 2}, {"target_modules": ["q_proj"]}])
def test_a_checkpoint_of_other_adapters_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    _, trainer = started()
    trainer.save(tmp_path)
    _, changed = started(**other)
    with pytest.raises(ValueError, match=r"is of another model: .*lora_A.*the LoRA keys beside it"):
        changed.load(tmp_path)
