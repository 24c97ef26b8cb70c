"""The whole way of ``docs/world_model.md``, in small: real rollouts, a world model of them, a policy that trains in it and is
validated in LIBERO itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from siirl.client import collect_demos, train_world_model
from siirl.client.main_dag import main
from siirl.observe.episodes import read_episodes
from siirl.training.scratch import new_policy
from tests.workers.runs import log_of

EXAMPLES = Path(__file__).parents[2] / "examples"
EMBODIED = "actor_rollout_ref.embodied"
ENV, VAL_ENV = f"{EMBODIED}.env", f"{EMBODIED}.val_env"
LIBERO = ["--tasks", "0", "--trials", "0,1", "--image-size", "64", "--no-antialiasing", "--max-texture-size", "64"]
TINY = [
    *("--autoencoder-widths", "8,16,16", "--latent-channels", "4", "--width", "32", "--depth", "1", "--heads", "2"),
    *("--classifier-widths", "8,16", "--sampling-steps", "2", "--holdout", "0.5", "--threads", "1"),
    *("--autoencoder-steps", "20", "--transformer-steps", "20", "--classifier-steps", "10"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model of two rollouts of the expert, hardly trained."""
    folder = tmp_path_factory.mktemp("world_model")
    rollouts = ["--rollouts", "--noise", "0.1", "--max-steps", "120", "--out", str(folder / "rollouts")]
    assert collect_demos.main([*LIBERO, *rollouts]) == 0
    out = ["--rollouts", str(folder / "rollouts"), "--out", str(folder / "model")]
    assert train_world_model.main([*out, *TINY]) == 0
    return folder / "model"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with the sizes of the one that ``examples/world_model/train.sh`` makes, and random weights."""
    folder = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    limits = {"q01": [-1.0] * 6 + [0.0], "q99": [1.0] * 7, "mask": [True] * 6 + [False]}
    config = json.loads((EXAMPLES / "world_model" / "architecture.json").read_text())
    words = (EXAMPLES / "start_policy" / "vocabulary.txt").read_text().split()
    new_policy(config, words, "libero_spatial", {"action": limits}).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def settings(model: Path, start: Path) -> dict[str, Any]:
    """What the shipped config needs to be as small as these. So short an episode of so poor a policy reaches nothing: what the
    classifier's probability gained tells the episodes of a group apart, and none is left out."""
    return {
        "actor_rollout_ref.model.path": start,
        "algorithm.reward": "env",
        "algorithm.embodied_sampling.filter_accuracy": "false",
        "algorithm.filter_groups.max_num_gen_batches": 1,
        f"{ENV}.world_model.path": model,
        f"{ENV}.world_model.num_sampling_steps": 2,
        f"{ENV}.image_size": 64,
        f"{ENV}.max_texture_size": 64,
        f"{ENV}.max_steps": 16,
        f"{ENV}.num_envs": 4,
        f"{ENV}.num_trials_per_task": 2,
        f"{VAL_ENV}.max_steps": 24,
        f"{VAL_ENV}.num_envs": 1,
        f"{VAL_ENV}.num_trials_per_task": 4,
        f"{VAL_ENV}.num_holdout_trials": 2,
        "trainer.backend": "inline",
        "trainer.logger": "[]",
        "trainer.cpu_threads": 1,
    }


def run(folder: Path, settings: dict[str, Any]) -> list[dict[str, float]]:
    """What the shipped config logged in ``folder``."""
    places = {
        "trainer.default_local_dir": folder,
        "data.train_files": folder / "train.parquet",
        "data.val_files": folder / "validate.parquet",
    }
    arguments = [f"{key}={value}" for key, value in (settings | places).items()]
    assert main(["--config-name=opensora_libero_spatial_grpo_openvlaoft_cpu_small", *arguments]) == 0
    return log_of(folder)


def test_a_policy_trains_in_imagination_and_is_validated_in_libero(tmp_path: Path, settings: dict[str, Any]) -> None:
    rows = run(tmp_path, settings)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["actor/optimizer_steps"] > 0 and row["actor/grad_norm"] > 0 for row in rows)
    assert all(row["actor/rollout_train_logprob_diff"] < 0.1 for row in rows)
    assert all(row["env/dropped"] == 0 for row in rows)
    assert "val/success_rate/libero_spatial_0" in rows[-1]
    episodes = read_episodes(tmp_path).to_pylist()
    imagined = [row for row in episodes if row["split"] == "train"]
    real = [row for row in episodes if row["split"] == "val"]
    assert len(imagined) == 16
    assert all(row["reward_sum"] for row in imagined), "a classifier is never quite sure of failure"
    assert {row["trial_id"] for row in real} == {2, 3}
    assert all(row["steps"] == 24 and row["reward_sum"] == 0 for row in real), "LIBERO's own limit, and its own reward"


def test_half_of_the_training_is_real_and_the_report_shows_both(tmp_path: Path, settings: dict[str, Any]) -> None:
    mixed = {
        f"{EMBODIED}.real_fraction": 0.5,
        f"{ENV}.video_cfg.save_video": "true",
        f"{ENV}.val_video_cfg.save_video": "true",
        "trainer.total_training_steps": 1,
    }
    (row,) = run(tmp_path, settings | mixed)
    assert row["rollout/real_fraction"] == 0.5
    assert row["rollout/episode_length/imagined"] <= 16
    assert row["rollout/episode_length/real"] == 24
    trained = [one for one in read_episodes(tmp_path).to_pylist() if one["split"] == "train"]
    assert {(one["group_id"], one["env"]) for one in trained} == {(0, "env"), (1, "val_env")}
    assert {one["trial_id"] for one in trained if one["env"] == "val_env"} <= {0, 1}, "not those that validate"
    page = (tmp_path / "report.html").read_text()
    for part in ("Imagined and real films", ">imagined<", ">real<", "Does imagined success foretell real success?"):
        assert part in page
