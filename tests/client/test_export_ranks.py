"""The policy taken out of a run of several ranks."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from siirl.client import export as command
from siirl.config.load import config_to_dict
from siirl.policies.lora import merged_state
from siirl.training.checkpoint import CheckpointManager
from siirl.training.fsdp import Ranks
from tests.policies.tiny import adapt, tiny_policy, tiny_policy_folder
from tests.training.ranks import on_ranks
from tests.training.test_fsdp import train_adapters, train_openvla_oft
from tests.training.updates import small_config


def train(ranks: Ranks, folder: Path) -> None:
    for work in (train_openvla_oft, train_adapters):
        (folder / work.__name__).mkdir(exist_ok=True)
        work(ranks, folder / work.__name__)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two ranks in each folder, beside the whole parameters."""
    folder = tmp_path_factory.mktemp("ranks")
    on_ranks(2, 2, train, folder)
    return folder


@pytest.mark.parametrize(("work", "rank"), [(train_openvla_oft, 0), (train_adapters, 4)])
def test_the_shards_of_all_ranks_become_one_policy(work: object, rank: int, trained: Path, tmp_path: Path) -> None:
    folder = trained / work.__name__  # type: ignore[attr-defined]
    config = small_config()
    config.actor_rollout_ref.model.path = str(tiny_policy_folder(tmp_path))
    config.actor_rollout_ref.model.lora_rank = rank
    manager = CheckpointManager(tmp_path / "run", keep=1)
    with manager.staging(1) as staged:
        shutil.copytree(folder / "checkpoint", staged, dirs_exist_ok=True)
        assert len(list(staged.glob("*.distcp"))) == 2, "one of each rank"
        manager.commit(1, {"config": config_to_dict(config)})
    assert command.main([str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    policy = tiny_policy()
    if rank:
        adapt(policy, trained=False)
    start = {name: tensor.clone() for name, tensor in merged_state(policy.model).items()}
    policy.model.load_state_dict(torch.load(folder / "rank0.pt", weights_only=True))
    expected, exported = merged_state(policy.model), load_file(tmp_path / "out" / "model.safetensors")
    assert exported.keys() == expected.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in expected.items())
    assert any(not torch.equal(exported[name], tensor) for name, tensor in start.items())
