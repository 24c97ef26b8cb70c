"""The value head over several real processes: sharded, trained, checkpointed and sent with the policy that it belongs to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor

from siirl.config.schema import CriticConfig
from siirl.data.trajectory import Target, Trajectory
from siirl.policies.base import Sampling, ValueHeadSettings
from siirl.policies.value_head import add_value_head
from siirl.roles.trainer import Trainer
from siirl.training.dcp import MODEL, load_tensors, save_tensors
from siirl.training.fsdp import ALONE, Ranks, full_parameters, shard
from siirl.training.weight_sync import WeightSync
from tests.training.ranks import CPU, on_ranks
from tests.training.updates import play, small_config

WORK = [("openvla-oft", 0), ("openvla", 0), ("openvla-oft", 4)]
"""Policies, and ranks of their adapters."""
WARM = [work for work in WORK if work[0] == "openvla-oft"]
CHUNKS = [2, 1, 1, 1]


def build(kind: str, lora_rank: int) -> Any:
    from tests.policies.tiny import adapt, tiny_openvla, tiny_policy  # here: imported in the processes that need it

    policy: Any = tiny_policy() if kind == "openvla-oft" else tiny_openvla()
    if lora_rank:
        adapt(policy, trained=False, lora_rank=lora_rank)
    # one value: its bias has fewer elements than there are ranks
    add_value_head(policy.model, ValueHeadSettings("first_action", 1), policy.model.hidden_size)
    return policy


def inputs_of(policy: Any) -> dict[str, torch.Tensor]:
    from tests.policies.observations import observe

    return policy.prepare(observe(2))


def train(ranks: Ranks, policy: Any) -> None:
    """Two steps on what the unsharded policy drew; the same rows on every rank."""
    inputs = inputs_of(policy)
    chunk = policy.act(inputs, Sampling(True, 1.0, [1, 2]))
    shard(policy.model, ranks, CPU)
    assert isinstance(policy.model.value_head.fc3.bias, DTensor) == (ranks.trainers is not None)
    trained = [p for p in policy.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    for _ in range(2):
        now = policy.evaluate(inputs, chunk.sampled, 1.0)
        (0.5 * (now.values - 1).square().mean() - now.log_probs.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


def checkpointed(policy: Any) -> dict[str, torch.Tensor]:
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    return {f"{MODEL}{name}": tensor for name, tensor in policy.model.state_dict().items() if name in trained}


def two_train_and_one_acts(ranks: Ranks, folder: Path) -> None:
    for kind, lora_rank in WORK:
        place = folder / f"{kind}{lora_rank}"
        policy = build(kind, lora_rank)
        if ranks.trains:
            train(ranks, policy)
            place.mkdir(exist_ok=True)
            save_tensors(place, checkpointed(policy), ranks.trainers)
        else:
            torch.nn.init.normal_(policy.model.value_head.fc3.weight)
        sync = WeightSync(ranks, CPU, *((policy.model, None) if ranks.trains else (None, policy.model)))
        sync.sync(2 if ranks.trains else None)
        if ranks.rank == 2:
            torch.save(policy.model.state_dict(), folder / f"{kind}{lora_rank}.pt")


@pytest.fixture(scope="module")
def three_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three_ranks")
    on_ranks(3, 2, two_train_and_one_acts, folder)
    return folder


@pytest.mark.parametrize(("kind", "lora_rank"), WORK)
def test_two_ranks_train_the_head_as_one_does_and_a_third_acts_with_it(
    kind: str, lora_rank: int, three_ranks: Path
) -> None:
    alone = build(kind, lora_rank)
    train(ALONE, alone)
    sent = torch.load(three_ranks / f"{kind}{lora_rank}.pt", weights_only=True)
    for name, tensor in full_parameters(alone.model, CPU):
        assert (sent[name] - tensor).norm() <= 1e-4 * tensor.norm().clamp(min=1), name
    assert sent["value_head.fc3.weight"].any()

    restored = build(kind, lora_rank)
    load_tensors(three_ranks / f"{kind}{lora_rank}", checkpointed(restored))
    assert all(torch.equal(tensor, sent[name]) for name, tensor in restored.model.state_dict().items())
    acting = build(kind, lora_rank)
    acting.model.load_state_dict(sent)
    inputs = inputs_of(acting)
    assert torch.equal(acting.value(inputs), restored.value(inputs))
    assert acting.value(inputs).abs().min() > 1e-3


def warm_up(ranks: Ranks, folder: Path) -> None:
    """Two updates of an optimizer step each, the first of the head alone."""
    for kind, lora_rank in WARM:
        policy, config = build(kind, lora_rank), small_config(ppo_micro_batch_size_per_gpu=2)
        config.critic = CriticConfig(use_critic_model=True, warmup_steps=1)
        trainer: Trainer[Trajectory] = Trainer(policy, config, CPU, ranks)
        before = {name: tensor.clone() for name, tensor in full_parameters(policy.model, CPU)}
        for update in range(2):
            whole = build(kind, lora_rank)
            episodes = play(whole, config, CHUNKS, image_size=32)
            rng = np.random.default_rng(update)
            targets = [Target(*rng.standard_normal((2, chunks)).astype(np.float32)) for chunks in CHUNKS]
            trainer.update(episodes, CHUNKS, targets, list)
            now = dict(full_parameters(policy.model, CPU))
            moved = {name for name, tensor in now.items() if not torch.equal(tensor, before[name])}
            assert any("value_head" in name for name in moved)
            assert any("value_head" not in name for name in moved) == (update == 1)
        torch.save(now, folder / f"{kind}{lora_rank}-{ranks.actors}-{ranks.rank}.pt")


def test_two_ranks_warm_the_head_up_as_one_does(tmp_path: Path) -> None:
    warm_up(ALONE, tmp_path)
    on_ranks(2, 2, warm_up, tmp_path)
    for kind, lora_rank in WARM:
        alone, *two = (
            torch.load(tmp_path / f"{kind}{lora_rank}-{which}.pt", weights_only=True) for which in ("1-0", "2-0", "2-1")
        )
        for name, tensor in alone.items():
            for ours in two:
                assert (ours[name] - tensor).norm() <= 1e-3 * tensor.norm().clamp(min=1), name


def test_a_checkpoint_without_a_head_is_refused_by_a_run_with_one(tmp_path: Path) -> None:
    policy = build("openvla", 0)
    tensors = checkpointed(policy)
    save_tensors(tmp_path, {name: tensor for name, tensor in tensors.items() if "value_head" not in name})
    with pytest.raises(
        ValueError, match=r"6 tensors differ \(model\.value_head\.fc1\.weight: saved nothing, needed"
    ) as e:
        load_tensors(tmp_path, tensors)
    assert "critic.use_critic_model and algorithm.reward_type" in str(e.value)
