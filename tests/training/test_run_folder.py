import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from siirl.config.schema import Config
from siirl.training.checkpoint import CheckpointManager
from siirl.training.run_folder import MEANING, locked, same_run_problems, weights_digest


def save(folder: Path, config: Config, step: int = 1) -> None:
    manager = CheckpointManager(folder, keep=5)
    with manager.staging(step):
        weights = weights_digest(Path(config.actor_rollout_ref.model.path))
        manager.commit(step, {"config": dataclasses.asdict(config), "start_weights": weights})


def test_every_key_of_a_runs_meaning_is_in_the_schema() -> None:
    for key in MEANING:
        value: object = Config()
        for part in key.split("."):
            value = getattr(value, part)


def test_a_run_goes_on_with_other_lengths_logging_and_learning_rate(tmp_path: Path) -> None:
    save(tmp_path, Config())
    config = Config()
    config.trainer.total_epochs = 9
    config.trainer.save_freq = 1
    config.trainer.logger = ["console"]
    config.trainer.n_gpus_per_node = 8
    config.data.train_batch_size = 8
    config.actor_rollout_ref.actor.optim.lr = 1e-3
    config.data.train_files = "moved/train.parquet"
    assert same_run_problems(tmp_path, config) == []


def test_every_changed_key_is_shown_with_both_values_and_the_fix(tmp_path: Path) -> None:
    save(tmp_path, Config())
    config = Config()
    config.actor_rollout_ref.embodied.env.env_name = "libero_goal"
    config.actor_rollout_ref.embodied.action_chunks_len = 5
    config.algorithm.reward = "sparse"
    config.actor_rollout_ref.embodied.env.max_texture_size = 64
    checkpoint = tmp_path / "global_step_1"
    found = {line.partition(": allowed: ")[0]: line for line in same_run_problems(tmp_path, config)}
    assert {key: line.partition(": allowed: ")[2].partition(",")[0] for key, line in found.items()} == {
        "algorithm.reward=sparse": "srpo",
        "actor_rollout_ref.embodied.action_chunks_len=5": "8",
        "actor_rollout_ref.embodied.env.env_name=libero_goal": "libero_spatial",
        "actor_rollout_ref.embodied.env.max_texture_size=64": "null",
    }
    for line in found.values():
        assert f"as in the run of {checkpoint}. Fix: set it back, or trainer.default_local_dir" in line
        assert "trainer.resume_mode=disable" in line


def test_an_empty_folder_or_a_new_start_takes_any_config(tmp_path: Path) -> None:
    assert same_run_problems(tmp_path / "new", Config()) == []
    save(tmp_path, Config())
    config = Config()
    config.algorithm.reward = "sparse"
    config.trainer.resume_mode = "disable"
    assert same_run_problems(tmp_path, config) == []


def test_the_checkpoint_that_would_be_resumed_counts(tmp_path: Path) -> None:
    sparse = Config()
    sparse.algorithm.reward = "sparse"
    save(tmp_path, Config(), step=1)
    save(tmp_path, sparse, step=2)
    (line,) = same_run_problems(tmp_path, Config())
    assert line.startswith("algorithm.reward=srpo: allowed: sparse")
    (tmp_path / "global_step_2" / "trainer_state.json").write_text("{")  # broken: step 1 would be resumed
    assert same_run_problems(tmp_path, Config()) == []
    sparse.trainer.resume_mode = "resume_path"
    sparse.trainer.resume_from_path = str(tmp_path / "global_step_1")
    (line,) = same_run_problems(tmp_path, sparse)
    assert line.startswith("algorithm.reward=sparse: allowed: srpo")


def test_a_missing_resume_path_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = Config()
    config.trainer.resume_mode = "resume_path"
    config.trainer.resume_from_path = str(tmp_path / "global_step_9")
    with pytest.raises(ValueError, match="no such folder"):
        same_run_problems(tmp_path, config)


def problems_with_policy(folder: Path, name: str) -> list[str]:
    """What is said of a run that started from the policy ``old`` and shall go on with the one called ``name``."""
    config, run = Config(), folder / f"run_{name}"
    config.actor_rollout_ref.model.path = str(folder / "old")
    save(run, config)
    config.actor_rollout_ref.model.path = str(folder / name)
    return same_run_problems(run, config)


def test_policies_are_compared_by_architecture_not_by_place(tmp_path: Path) -> None:
    for name, layers in (("old", 4), ("moved", 4), ("other", 5)):
        (tmp_path / name).mkdir()
        architecture = {"layers": layers, "_name_or_path": name, "transformers_version": name}
        (tmp_path / name / "config.json").write_text(json.dumps(architecture))
    assert problems_with_policy(tmp_path, "moved") == []
    (line,) = problems_with_policy(tmp_path, "other")
    assert line.startswith("config.json of actor_rollout_ref.model.path: layers=5: allowed: 4")


def test_a_run_does_not_go_on_from_other_start_weights(tmp_path: Path) -> None:
    """Weights of one architecture have equal headers and sizes: only the numbers tell them apart."""
    for name, number in (("old", 0), ("moved", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        weights = np.zeros(500_000, np.float32)
        weights[100_000:] = number
        save_file({"head": weights}, tmp_path / name / "model.safetensors")
    assert problems_with_policy(tmp_path, "moved") == []
    (line,) = problems_with_policy(tmp_path, "other")
    assert line.startswith(f"actor_rollout_ref.model.path={tmp_path}/other: allowed: the weights that the run of")
    assert f"({tmp_path}/old); these are others" in line


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        with pytest.raises(ValueError, match=r"run: another process is running there \(it holds .*run/\.lock\)"):
            with locked(tmp_path / "run"):
                pass
    with locked(tmp_path / "run"):
        pass
