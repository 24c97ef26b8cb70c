"""Whole runs that train in one environment and validate in another: in one process, and on Ray."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from siirl.client.main_dag import main
from siirl.observe.episodes import read_episodes
from tests.envs.world_model.folders import SIZE, opensora_folder
from tests.policies.tiny import tiny_policy_folder
from tests.workers.runs import ENV, EXACT, INLINE, TOY, assert_same_weights, command_line, log_of, weights_of

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


MIXED = {
    "actor_rollout_ref.embodied.real_fraction": 0.5,
    f"{VAL_ENV}.num_trials_per_task": 4,
    f"{VAL_ENV}.num_holdout_trials": 2,
    "trainer.save_freq": 1,
}


def check_mixed(folder: Path) -> None:
    """Of a step's two groups one is imagined and one real, of trials that do not validate."""
    rows = read_episodes(folder).to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    groups = {(row["step"], row["group_id"]): set() for row in train}
    for row in train:
        groups[row["step"], row["group_id"]].add((row["env"], row["trial_id"]))
    assert all(len(group) == 1 for group in groups.values()), "a group's episodes share environment and trial"
    assert [{env for env, _ in group} for _, group in sorted(groups.items())] == [{"env"}, {"val_env"}] * 2
    assert {row["trial_id"] for row in train if row["env"] == "val_env"} == {0, 1}
    assert all(row["steps"] <= 16 and row["reward_sum"] for row in train if row["env"] == "env")
    assert all(not row["reward_sum"] for row in train if row["env"] == "val_env"), "the toy pays nothing"
    assert {(row["env"], row["trial_id"]) for row in rows if row["split"] == "val"} == {("val_env", 2), ("val_env", 3)}
    for row in log_of(folder):
        of_both = (row["rollout/success_rate/imagined"] + row["rollout/success_rate/real"]) / 2
        assert row["rollout/success_rate"] == pytest.approx(of_both)
        assert row["rollout/real_fraction"] == 0.5
    assert pq.read_table(folder / "train.parquet")["max_steps"].to_pylist() == [16] * 6 + [24] * 2


def test_real_groups_beside_imagined_ones_and_a_resumption(
    toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(command_line(whole, blind, EXACT, INLINE, imagined, MIXED)) == 0
    check_mixed(whole)
    for steps in (1, 2):
        stop = {"trainer.total_training_steps": steps}
        assert main(command_line(parts, blind, EXACT, INLINE, imagined, MIXED, stop)) == 0
    check_mixed(parts)
    assert_same_weights(weights_of(parts, 2), weights_of(whole, 2))
    other = {"actor_rollout_ref.embodied.real_fraction": 0.25}
    assert main(command_line(parts, blind, EXACT, INLINE, imagined, MIXED, other)) == 2
    assert "real_fraction=0.25: allowed: 0.5, as in the run of" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_both_pools_of_simulators_roll_out_at_once_on_ray(
    toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object]
) -> None:
    assert main(command_line(tmp_path, blind, imagined, MIXED, {f"{VAL_ENV}.num_envs": 2})) == 0
    check_mixed(tmp_path)


def test_a_real_part_larger_than_its_prompts_is_refused(
    toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    large = {"data.train_batch_size": 6, f"{VAL_ENV}.num_holdout_trials": 2}
    assert main(command_line(tmp_path, blind, INLINE, imagined, MIXED, large)) == 2
    assert "of which actor_rollout_ref.embodied.real_fraction leaves 3 prompts to toy, of at most 2" in (
        capsys.readouterr().err
    )


def test_validation_alone_needs_no_world_model(
    toy: Path, blind: Path, tmp_path: Path, imagined: dict[str, object]
) -> None:
    only = {"trainer.val_only": "true", f"{ENV}.world_model.path": "null"}
    assert main(command_line(tmp_path, blind, INLINE, imagined, only)) == 0
    assert {row["split"] for row in read_episodes(tmp_path).to_pylist()} == {"val"}
    assert not (tmp_path / "train.parquet").exists()
