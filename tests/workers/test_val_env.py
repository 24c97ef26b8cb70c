"""Whole runs that train in one environment and validate in another: in one process, and on Ray."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from siirl.client.main_dag import main
from siirl.observe.episodes import read_episodes
from tests.envs.world_model.folders import SIZE, opensora_folder
from tests.policies.tiny import tiny_policy_folder
from tests.workers.runs import ENV, INLINE, TOY, command_line, log_of

VAL_ENV = "actor_rollout_ref.embodied.val_env"


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy without proprioception."""
    return tiny_policy_folder(tmp_path_factory.mktemp("policy"), use_proprio=False)


@pytest.fixture(scope="module")
def imagined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Settings of a run that is imagined, and validated in the toy simulator."""
    folder = opensora_folder(tmp_path_factory.mktemp("model"))
    return TOY | {
        f"{ENV}.env_type": "opensora_wm",
        f"{ENV}.image_size": SIZE,
        f"{ENV}.num_envs": 3,
        f"{ENV}.num_holdout_trials": 0,
        f"{ENV}.max_steps": 16,
        f"{ENV}.antialiasing": "true",
        f"{ENV}.max_texture_size": "null",
        f"{ENV}.num_steps_wait": 10,
        f"{ENV}.world_model.wm_env_type": "toy",
        f"{ENV}.world_model.path": folder,
        f"{ENV}.world_model.dtype": "fp32",
        f"{ENV}.world_model.num_sampling_steps": 2,
        f"{VAL_ENV}.env_type": "toy",
        f"{VAL_ENV}.num_envs": 1,
        f"{VAL_ENV}.max_steps": 24,
        f"{VAL_ENV}.num_holdout_trials": 2,
        "algorithm.reward": "env",
        "trainer.test_freq": 1,
        "trainer.save_freq": -1,
    }


def check(folder: Path) -> None:
    """Training was imagined: trials of its own, chunks of 8 steps until 16. Validation was not: 24 steps, held-out trials."""
    rows = read_episodes(folder).to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    validate = [row for row in rows if row["split"] == "val"]
    assert len(train) == 8
    assert len(validate) == 4
    assert max(row["steps"] for row in train) <= 16
    assert {row["trial_id"] for row in validate} == {4, 5}
    assert max(row["steps"] for row in validate) > 16, "the toy's own limit"
    assert any(row["reward_sum"] for row in train), "a classifier is never quite sure; the toy pays nothing"
    assert not any(row["reward_sum"] for row in validate)
    assert [row["step"] for row in log_of(folder)] == [1, 2]
    assert pq.read_table(folder / "train.parquet")["max_steps"].to_pylist() == [16] * 6
    assert pq.read_table(folder / "validate.parquet")["max_steps"].to_pylist() == [24] * 2


def test_in_one_process(toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object]) -> None:
    assert main(command_line(tmp_path, blind, INLINE, imagined)) == 0
    check(tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_on_ray(toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object]) -> None:
    assert main(command_line(tmp_path, blind, imagined, {f"{VAL_ENV}.num_envs": 2})) == 0
    check(tmp_path)


def test_validation_alone_needs_no_world_model(
    toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object]
) -> None:
    only = {"trainer.val_only": "true", f"{ENV}.world_model.path": "null"}
    assert main(command_line(tmp_path, blind, INLINE, imagined, only)) == 0
    assert {row["split"] for row in read_episodes(tmp_path).to_pylist()} == {"val"}
    assert not (tmp_path / "train.parquet").exists()
