"""The configs under the documents' names, through their small overlays: two real training steps of both simulators, both policies
and both algorithms. That the others compose and pass every check is tested in ``tests/config/test_shipped.py``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from siirl.client.main_dag import main
from siirl.training.scratch import new_policy
from siirl.training.scratch_starvla import new_starvla
from tests.envs.maniskill.conftest import require_drawing
from tests.workers.runs import log_of

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "pickcube"
ENV = "actor_rollout_ref.embodied.env"
SHORT = {f"{ENV}.num_envs": 2, f"{ENV}.max_steps": 16, "trainer.logger": "[]", "trainer.cpu_threads": 2}


def untrained(folder: Path, kind: str) -> Path:
    """A policy with the sizes of those that ``examples/pickcube/train.sh`` makes, and random weights."""
    torch.manual_seed(0)
    limits = {"q01": [-1.0] * 6 + [0.0], "q99": [1.0] * 7, "mask": [True] * 6 + [False]}
    proprio = {"q01": [-1.0] * 8, "q99": [1.0] * 8}
    config = json.loads((EXAMPLE / f"{kind}.json").read_text())
    words = (EXAMPLE / "vocabulary.txt").read_text().split()
    new_policy(config, words, "PickCube-v1", {"action": limits, "proprio": proprio}).save(str(folder / kind))
    return folder / kind


def trained(name: str, folder: Path, settings: dict[str, Any]) -> list[dict[str, float]]:
    """Run a config in ``folder``; what it logged."""
    places = {
        "trainer.default_local_dir": folder / "run",
        "data.train_files": folder / "train.parquet",
        "data.val_files": folder / "validate.parquet",
    }
    values = places | SHORT | settings
    assert main([f"--config-name={name}", *(f"{key}={value}" for key, value in values.items())]) == 0
    rows = log_of(folder / "run")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["actor/optimizer_steps"] > 0 for row in rows)
    return rows


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("maniskill_ppo_openvla_cpu_small", "openvla"),
        ("maniskill_grpo_openvlaoft_cpu_small", "openvla_oft"),
    ],
)
def test_those_of_maniskill_train(tmp_path: Path, name: str, kind: str) -> None:
    require_drawing()
    policy = untrained(tmp_path, kind)
    # a policy that knows nothing succeeds nowhere: the simulator's own reward is what tells its episodes apart
    rows = trained(name, tmp_path, {"actor_rollout_ref.model.path": policy, "algorithm.reward": "env"})
    assert ("actor/value_loss" in rows[0]) == ("_ppo_" in name)
    assert all(row["env/step_reward"] > 0 and row["actor/grad_norm"] > 0 for row in rows)


def test_ppo_on_libero_trains(tmp_path: Path) -> None:
    """So short an episode earns nothing, and values have nothing to learn; but all of it runs."""
    rows = trained("libero_10_ppo_openvlaoft_cpu_small", tmp_path, {"data.train_batch_size": 4})
    assert rows[0]["actor/value_loss"] >= 0
    assert all(row["critic/explained_variance"] <= 1 for row in rows)


@pytest.mark.parametrize("suite", ["10", "spatial"])
def test_those_of_starvla_train_and_are_evaluated_greedily(tmp_path: Path, suite: str) -> None:
    """With the sizes of the policy that ``examples/starvla/train.sh`` makes, and random weights: nothing succeeds, and no group
    is left out for that."""
    torch.manual_seed(0)
    ends = {"min": [-1.0] * 6 + [0.0], "max": [1.0] * 7, "mask": [True] * 6 + [False]}
    config = json.loads((EXAMPLES / "starvla" / "architecture.json").read_text())
    words = (EXAMPLES / "start_policy" / "vocabulary.txt").read_text().split()
    new_starvla(config, words, "libero_spatial", {"action": ends}).save(str(tmp_path / "policy"))
    settings = {
        "actor_rollout_ref.model.path": tmp_path / "policy",
        "algorithm.embodied_sampling.filter_accuracy": "false",
        "algorithm.filter_groups.max_num_gen_batches": 1,
        "actor_rollout_ref.actor.entropy_coeff": 0.01,  # the one thing that has a gradient where nothing succeeds
        f"{ENV}.num_holdout_trials": 1,
        "trainer.test_freq": 2,
    }
    rows = trained(f"libero_{suite}_grpo_starvla_cpu_small", tmp_path, settings)
    assert all(row["actor/rollout_train_logprob_diff"] < 0.1 and row["actor/grad_norm"] > 0 for row in rows)
    assert any(name.startswith("val/") for name in rows[-1])
