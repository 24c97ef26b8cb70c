"""FSDP2 on real processes: two gloo ranks must train as one does, and read each other's checkpoints."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from siirl.config.schema import Config, FSDPConfig
from siirl.data.trajectory import Trajectory
from siirl.roles.trainer import Trainer
from siirl.training.fsdp import ALONE, Ranks, full_parameters, transformer_blocks
from tests.training.ranks import CPU, on_ranks
from tests.training.updates import SmallPolicy, play, small_config, targets, weights

if TYPE_CHECKING:
    from siirl.policies.prismatic.policy import PrismaticPolicy
    from siirl.policies.starvla import StarVLA

CHUNKS = [3, 1, 4, 2, 5, 2, 1, 3, 6]
"""Of nine episodes: the last mini-batch holds one, so a rank of two has none of its own."""
ADVANTAGES = np.linspace(-1, 1, len(CHUNKS)).round(2) + 0.05


def config() -> Config:
    return small_config(ppo_epochs=2, entropy_coeff=0.01, grad_clip=0.5)


def fetch(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return list(trajectories)


def update(policy: SmallPolicy, trainer: Trainer[Trajectory], episodes_of: SmallPolicy, seed: int) -> dict[str, float]:
    return trainer.update(play(episodes_of, config(), CHUNKS, seed), CHUNKS, targets(ADVANTAGES), fetch)


def train_and_save(ranks: Ranks, folder: Path) -> None:
    policy = SmallPolicy()
    offloading = config()
    offloading.actor_rollout_ref.actor.fsdp_config = FSDPConfig(True, True, True)
    trainer: Trainer[Trajectory] = Trainer(policy, offloading, CPU, ranks)
    assert all(isinstance(p, DTensor) for p in policy.model.parameters())
    metrics = update(policy, trainer, SmallPolicy(), seed=0)
    full = dict(full_parameters(policy.model, CPU))
    torch.save({"weights": full, "metrics": metrics, "version": trainer.version}, folder / f"rank{ranks.rank}.pt")
    save(trainer, folder / "checkpoint")


def load_and_train(ranks: Ranks, folder: Path) -> None:
    policy = SmallPolicy(seed=3)
    trainer: Trainer[Trajectory] = Trainer(policy, config(), CPU, ranks)
    trainer.load(folder / "one")
    loaded = dict(full_parameters(policy.model, CPU))
    version = trainer.version
    update(policy, trainer, SmallPolicy(), seed=1)
    result = {"loaded": loaded, "version": version, "weights": dict(full_parameters(policy.model, CPU))}
    torch.save(result, folder / f"{ranks.rank}.pt")


def train_compiled(ranks: Ranks, folder: Path) -> None:
    """The same with compiled blocks and recomputed activations. Hooks and sharding meet the compiler before it writes C++,
    which would take a minute."""
    from torch._dynamo.utils import counters

    with torch.compiler.set_stance("default", force_backend="aot_eager"):
        train_openvla_oft(ranks, folder, compiled=True)
    assert counters["stats"]["unique_graphs"] >= 2, "blocks of vision and Llama"


def train_openvla_oft(
    ranks: Ranks,
    folder: Path,
    lora: bool = False,
    compiled: bool = False,
    make: "Callable[[], PrismaticPolicy | StarVLA] | None" = None,
) -> dict[str, torch.Tensor]:
    """The weights of the real policy, tiny, after one update; two steps, the second with one episode only. ``lora`` and
    ``compiled`` come with gradient checkpointing."""
    from tests.policies.tiny import adapt, tiny_policy  # here: the other processes need not import transformers

    config = small_config(ppo_mini_batch_size=1)
    config.actor_rollout_ref.actor.optim.lr = 1e-3
    make = make or tiny_policy
    policy = make()
    if lora:
        adapt(policy, trained=False)
    if lora or compiled:
        policy.model.enable_gradient_checkpointing()
    if compiled:
        policy.model.compile_blocks()
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU, ranks)
    chunks = [3, 2, 3]  # a batch of one row would be compiled once more
    episodes = play(make(), config, chunks, image_size=40, state_dim=8)
    metrics = trainer.update(episodes, chunks, targets(ADVANTAGES[:3]), fetch)
    assert metrics["actor/rollout_train_logprob_diff"] < 1e-5
    trained = {name: tensor.clone() for name, tensor in full_parameters(policy.model, CPU)}
    torch.save(trained, folder / f"rank{ranks.rank}.pt")
    if ranks.world > 1:
        save(trainer, folder / "checkpoint")
    return trained


def train_openvla(ranks: Ranks, folder: Path) -> dict[str, torch.Tensor]:
    """The same with the autoregressive policy."""
    from tests.policies.tiny import tiny_openvla

    return train_openvla_oft(ranks, folder, make=tiny_openvla)


def tiny_tied_starvla(folder: Path) -> "StarVLA":
    """A Qwen3-VL whose output head is its embedding of words."""
    from tests.policies.starvla.tiny import QWEN3, load, tiny_starvla_folder

    policy = load(tiny_starvla_folder(folder, QWEN3), views=1)
    assert policy.model.tied
    return policy


def train_starvla(ranks: Ranks, folder: Path) -> dict[str, torch.Tensor]:
    """The same with a policy of continuous actions and tied weights."""
    fresh = count()
    return train_openvla_oft(ranks, folder, make=lambda: tiny_tied_starvla(folder / f"{ranks.rank}_{next(fresh)}"))


def train_adapters(ranks: Ranks, folder: Path) -> dict[str, torch.Tensor]:
    """The same with LoRA adapters and recomputed activations."""
    return train_openvla_oft(ranks, folder, lora=True)


def skip_together(ranks: Ranks, folder: Path) -> None:
    """Only one rank's episodes hold a NaN, and still both skip that step and go on."""
    policy = SmallPolicy()
    trainer: Trainer[Trajectory] = Trainer(policy, config(), CPU, ranks)
    episodes = play(SmallPolicy(), config(), CHUNKS)
    episodes[0].log_probs[0, 0] = np.nan
    metrics = trainer.update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    torch.save(
        {"metrics": metrics, "weights": dict(full_parameters(policy.model, CPU))}, folder / f"rank{ranks.rank}.pt"
    )


def train_stale(ranks: Ranks, folder: Path) -> dict[str, torch.Tensor]:
    """An update on episodes of other weights, in two epochs: the second gives episodes to other ranks than the first."""
    policy, stale = SmallPolicy(), config()
    stale.trainer.max_staleness = 2
    trainer: Trainer[Trajectory] = Trainer(policy, stale, CPU, ranks)
    metrics = update(policy, trainer, SmallPolicy(seed=1), seed=0)
    result = dict(full_parameters(policy.model, CPU))
    torch.save({"metrics": metrics, "weights": result}, folder / f"rank{ranks.rank}.pt")
    return result


def all_of_them(ranks: Ranks, folder: Path) -> None:
    for work in (
        train_and_save,
        train_openvla_oft,
        train_openvla,
        train_starvla,
        train_adapters,
        train_compiled,
        skip_together,
        train_stale,
    ):
        (folder / work.__name__).mkdir(exist_ok=True)
        work(ranks, folder / work.__name__)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left behind, in a folder for each piece of work; starting processes takes longer than the work."""
    folder = tmp_path_factory.mktemp("two_ranks")
    on_ranks(2, 2, all_of_them, folder)
    return folder


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def save(trainer: Trainer, folder: Path) -> None:
    """Into a folder that all ranks see, as the driver makes it in a run. Every rank knows the files of all."""
    folder.mkdir(exist_ok=True)
    assert trainer.save(folder) == [".metadata", *(f"__{rank}_0.distcp" for rank in range(trainer.ranks.world))]


def assert_close(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in actual.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_two_ranks_train_as_one_and_either_reads_the_others_checkpoint(two_ranks: Path, tmp_path: Path) -> None:
    policy = SmallPolicy()
    trainer: Trainer[Trajectory] = Trainer(policy, config(), CPU)
    metrics = update(policy, trainer, SmallPolicy(), seed=0)
    for rank in range(2):
        result = read(two_ranks / "train_and_save" / f"rank{rank}.pt")
        assert result["version"] == trainer.version == 6
        assert_close(result["weights"], weights(policy))
        assert result["metrics"] == pytest.approx(metrics, rel=1e-4, abs=1e-6)

    resumed = SmallPolicy(seed=9)  # 2 → 1
    on_one: Trainer[Trajectory] = Trainer(resumed, config(), CPU)
    on_one.load(two_ranks / "train_and_save" / "checkpoint")
    assert (on_one.version, on_one.updates) == (6, 1)
    assert all(torch.equal(weights(resumed)[k], v) for k, v in result["weights"].items())

    save(on_one, tmp_path / "one")
    saved = weights(resumed)
    update(resumed, on_one, SmallPolicy(), seed=1)
    on_ranks(2, 2, load_and_train, tmp_path)  # 1 → 2
    for rank in range(2):
        result = read(tmp_path / f"{rank}.pt")
        assert result["version"] == 6
        assert all(torch.equal(result["loaded"][k], saved[k]) for k in result["loaded"])
        assert_close(result["weights"], weights(resumed))


def test_two_ranks_make_up_for_stale_weights_as_one_does(two_ranks: Path, tmp_path: Path) -> None:
    train_stale(ALONE, tmp_path)
    expected = read(tmp_path / "rank0.pt")
    for rank in range(2):
        result = read(two_ranks / "train_stale" / f"rank{rank}.pt")
        assert_close(result["weights"], expected["weights"])
        assert result["metrics"] == pytest.approx(expected["metrics"], rel=1e-4, abs=1e-6)
    assert expected["metrics"]["actor/behavior_kl"] > 0.01


def test_all_ranks_skip_a_step_that_is_not_finite_on_one(two_ranks: Path) -> None:
    results = [read(two_ranks / "skip_together" / f"rank{rank}.pt") for rank in range(2)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["metrics"]["actor/skipped_steps"] == 2  # once per epoch
    assert results[0]["metrics"]["actor/optimizer_steps"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in results[0]["weights"].values())


@pytest.mark.parametrize("work", [train_openvla_oft, train_compiled])
def test_openvla_oft_trains_alike_on_two_ranks(two_ranks: Path, tmp_path: Path, work: Callable) -> None:
    expected = train_openvla_oft(ALONE, tmp_path)
    trained = read(two_ranks / work.__name__ / "rank1.pt")
    assert trained.keys() == expected.keys()
    from tests.policies.tiny import tiny_policy

    start = dict(tiny_policy().model.named_parameters())
    assert sum(not torch.equal(start[name], expected[name]) for name in start) > len(start) / 2
    for name, tensor in trained.items():
        assert (tensor - expected[name]).norm() <= 1e-5 * expected[name].norm().clamp(min=1), name


def tiny_autoregressive(folder: Path) -> "PrismaticPolicy":
    from tests.policies.tiny import tiny_openvla

    return tiny_openvla()


@pytest.mark.parametrize(("work", "make"), [(train_openvla, tiny_autoregressive), (train_starvla, tiny_tied_starvla)])
def test_other_policies_train_alike_on_two_ranks(
    two_ranks: Path, tmp_path: Path, work: Callable, make: Callable
) -> None:
    expected, start = work(ALONE, tmp_path), dict(make(tmp_path / "start").model.named_parameters())
    trained = read(two_ranks / work.__name__ / "rank1.pt")
    assert trained.keys() == expected.keys() == start.keys()
    assert sum(not torch.equal(start[name], expected[name]) for name in start) > len(start) / 2
    for name, tensor in trained.items():
        assert (tensor - expected[name]).norm() <= 1e-5 * expected[name].norm().clamp(min=1), name


def test_adapters_train_alike_on_two_ranks(two_ranks: Path, tmp_path: Path) -> None:
    expected = train_adapters(ALONE, tmp_path)
    trained = read(two_ranks / "train_adapters" / "rank1.pt")
    assert trained.keys() == expected.keys()
    for name, tensor in trained.items():
        assert (tensor - expected[name]).norm() <= 1e-5 * expected[name].norm().clamp(min=1), name
    from tests.policies.tiny import tiny_policy

    start = dict(tiny_policy().model.named_parameters())
    frozen = [name for name in trained if ".lora_" not in name]
    assert all(torch.equal(trained[name], start[name.replace(".base_layer.", ".")]) for name in frozen)
    moved = [name for name in trained if ".lora_B." in name and trained[name].any()]
    assert len(moved) > len(start) / 4


def test_blocks_are_found_once_and_outermost() -> None:
    model = SmallPolicy().model
    assert transformer_blocks(model) == list(model.blocks)
    from tests.policies.tiny import tiny_policy

    network = tiny_policy().model
    llama, vision = network.language_model.model.layers, network.vision_backbone.featurizer.blocks
    assert {*transformer_blocks(network)} == {*llama, *vision}
    layers = nn.ModuleList(nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(2)) for _ in range(3))
    assert transformer_blocks(nn.Sequential(layers, nn.Linear(2, 2))) == list(layers)


def test_full_parameters_of_one_rank_are_the_parameters_themselves() -> None:
    model = SmallPolicy().model
    assert {name: tensor.data_ptr() for name, tensor in full_parameters(model, CPU)} == {
        name: parameter.data_ptr() for name, parameter in model.named_parameters()
    }
