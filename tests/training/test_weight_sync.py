"""Weight sync on real processes: every copy that acts must hold exactly what was trained, cast to what it rests in."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from siirl.data.trajectory import Trajectory
from siirl.policies.base import Sampling
from siirl.roles.trainer import Trainer
from siirl.training import weight_sync
from siirl.training.fsdp import ALONE, Ranks, full_parameters
from siirl.training.weight_sync import WeightSync
from tests.training.ranks import CPU, on_ranks
from tests.training.updates import Network, SmallPolicy, play, small_config, targets, weights

CHUNKS, ADVANTAGES = [2, 1, 3, 2], np.array([1.0, -1.0, 0.5, -0.5])
SAMPLING = Sampling(True, 1.0, [3])


def fetch(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return list(trajectories)


def half_linear(policy: Any) -> Any:
    """The policy with linear layers, but not norms, in bf16."""
    for module in policy.model.modules():
        if isinstance(module, nn.Linear):
            module.bfloat16()
    return policy


def act(policy: SmallPolicy) -> dict[str, torch.Tensor]:
    features = torch.linspace(-1, 1, 15).view(3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        chunk = policy.act({"features": features}, SAMPLING)
    return {"sampled": chunk.sampled, "log_probs": chunk.log_probs}


def three_times(ranks: Ranks, folder: Path, actors_act: bool = False, half: bool = False) -> None:
    """Sync at the start and after each of two updates; every rank notes what was told, what it holds, and how it acts."""
    weight_sync.BUCKET_BYTES = 2000  # of 10,000: several, and one parameter that has more
    trained = SmallPolicy(seed=1) if ranks.trains else None
    trainer: Trainer[Trajectory] | None = trained and Trainer(trained, small_config(), CPU, ranks)
    acting = SmallPolicy(seed=5 + ranks.rank) if actors_act or not ranks.trains else None
    if acting and half:
        half_linear(acting)
    sync = WeightSync(ranks, CPU, trained and trained.model, acting and acting.model)
    steps = []
    for step in range(3):
        note: dict[str, Any] = {"report": list(sync.sync(trainer.version if trainer else None))}
        if acting:
            note |= {"holds": weights(acting), "acts": act(acting)}
        if trained and trainer:
            note["whole"] = {name: tensor.clone() for name, tensor in full_parameters(trained.model, CPU)}
            trainer.update(play(SmallPolicy(), small_config(), CHUNKS, step), CHUNKS, targets(ADVANTAGES), fetch)
        steps.append(note)
    torch.save(steps, folder / f"{ranks.rank}.pt")


def actors_act_too(ranks: Ranks, folder: Path) -> None:
    three_times(ranks, folder, actors_act=True)


def all_act_in_half(ranks: Ranks, folder: Path) -> None:
    three_times(ranks, folder, actors_act=True, half=True)


def adapters(ranks: Ranks, folder: Path) -> None:
    """The real policy with LoRA: only adapters are sent; the rest of the copies stays as it is."""
    from tests.policies.tiny import adapt, tiny_policy  # here: the other processes need not import transformers

    policy = tiny_policy()
    adapt(policy, trained=ranks.trains)
    frozen = {name: tensor.clone() for name, tensor in weights(policy).items() if ".lora_" not in name}
    size = sum(p.nbytes for n, p in policy.model.named_parameters() if ".lora_" in n)
    expected = {n: t for n, t in weights(policy).items() if ".lora_" in n}
    if ranks.trains:
        Trainer(policy, small_config(), CPU, ranks)
        torch.save(expected, folder / f"trained{ranks.rank}.pt")
    sync = WeightSync(ranks, CPU, *((policy.model, None) if ranks.trains else (None, policy.model)))
    assert sync.sync(7 if ranks.trains else None) == (7, size)
    assert size > 0
    if not ranks.trains:
        now = weights(policy)
        assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
        torch.save({n: t for n, t in now.items() if ".lora_" in n}, folder / "received.pt")


def two_actors_and_one_other(ranks: Ranks, folder: Path) -> None:
    three_times(ranks, folder)
    adapters(ranks, folder)


def other_models(ranks: Ranks, folder: Path) -> None:
    """A rank that acts with a wider network is refused, by all."""
    network = Network(12 if ranks.trains else 16)
    with pytest.raises(RuntimeError, match="weights cannot be sent between different models") as error:
        WeightSync(ranks, CPU, *((network, None) if ranks.trains else (None, network)))
    (folder / f"error{ranks.rank}").write_text(str(error.value))


def one_actor_and_one_other(ranks: Ranks, folder: Path) -> None:
    three_times(ranks, folder)
    other_models(ranks, folder)


@pytest.mark.parametrize(
    ("world", "actors", "work", "copies"),
    [
        (2, 1, one_actor_and_one_other, [1]),
        (3, 2, two_actors_and_one_other, [2]),
        (2, 2, actors_act_too, [0, 1]),
        (4, 2, all_act_in_half, [0, 1, 2, 3]),
    ],
)
def test_every_copy_holds_and_does_what_the_trained_weights_do(
    world: int, actors: int, work: Callable[[Ranks, Path], None], copies: list[int], tmp_path: Path
) -> None:
    on_ranks(world, actors, work, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world)]
    half = work is all_act_in_half
    reference = half_linear(SmallPolicy()) if half else SmallPolicy()
    size = sum(parameter.nbytes for parameter in reference.model.parameters())
    for step in range(3):
        whole = ranks[0][step]["whole"]
        reference.model.load_state_dict(whole)  # casts, where the reference rests in bf16
        for rank in range(world):
            assert ranks[rank][step]["report"] == [step, size if world > actors else 0]
        for rank in copies:
            note = ranks[rank][step]
            for name, tensor in weights(reference).items():
                assert note["holds"][name].dtype == tensor.dtype
                assert torch.equal(note["holds"][name], tensor), name
            assert all(torch.equal(note["acts"][key], value) for key, value in act(reference).items())
    assert not torch.equal(ranks[0][0]["whole"]["embed.weight"], ranks[0][2]["whole"]["embed.weight"])
    if work is two_actors_and_one_other:
        sent, received = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("trained0", "received"))
        assert sent.keys() == received.keys()
        assert all(torch.equal(received[name], tensor) for name, tensor in sent.items())
        assert any(tensor.any() for name, tensor in received.items() if ".lora_B." in name)
    if work is one_actor_and_one_other:
        told = (tmp_path / "error0").read_text()
        assert "17 parameters differ (embed.weight: [12, 5] here, [16, 5] acting elsewhere; " in told
        assert "1 other ranks differ" in (tmp_path / "error1").read_text()


def test_one_process_has_nothing_to_send_and_may_have_a_copy() -> None:
    trained, acting = SmallPolicy(seed=1), SmallPolicy(seed=2)
    assert WeightSync(ALONE, CPU, trained.model, None).sync(4) == (4, 0)
    assert WeightSync(ALONE, CPU, trained.model, acting.model).sync(4) == (4, 0)
    assert all(torch.equal(tensor, weights(trained)[name]) for name, tensor in weights(acting).items())


def test_a_bucket_has_one_dtype_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_sync, "BUCKET_BYTES", 100)
    shapes = [("a", [5, 5], "torch.bfloat16"), ("b", [25], "torch.bfloat16"), ("c", [1], "torch.bfloat16")]
    layout = [*shapes, ("d", [40], "torch.float32"), ("e", [2], "torch.float32")]
    assert [[name for name, _, _ in bucket] for bucket in weight_sync._buckets(layout)] == [
        ["a", "b"],
        ["c"],
        ["d"],
        ["e"],
    ]
