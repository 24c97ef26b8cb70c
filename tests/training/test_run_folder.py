import dataclasses
import json
from pathlib import Path

import pytest

from siirl.config.schema import Config
from siirl.training.checkpoint import CheckpointManager
from siirl.training.run_folder import MEANING, check_same_run


def save(folder: Path, config: Config, step: int = 1) -> None:
    manager = CheckpointManager(folder, keep=5)
    with manager.staging(step):
        manager.commit(step, {"config": dataclasses.asdict(config)})


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
    check_same_run(tmp_path, config)


def test_every_changed_key_is_shown_with_both_values_and_the_fix(tmp_path: Path) -> None:
    save(tmp_path, Config())
    config = Config()
    config.actor_rollout_ref.embodied.env.env_name = "libero_goal"
    config.actor_rollout_ref.embodied.action_chunks_len = 5
    config.algorithm.reward = "sparse"
    with pytest.raises(ValueError, match="another config") as error:
        check_same_run(tmp_path, config)
    message = str(error.value)
    assert "actor_rollout_ref.embodied.env.env_name: 'libero_spatial' → 'libero_goal'" in message
    assert "actor_rollout_ref.embodied.action_chunks_len: 8 → 5" in message
    assert "algorithm.reward: 'srpo' → 'sparse'" in message
    assert message.count("→") == 3
    assert "trainer.default_local_dir" in message
    assert "trainer.resume_mode=disable" in message


def test_an_empty_folder_or_a_new_start_takes_any_config(tmp_path: Path) -> None:
    check_same_run(tmp_path / "new", Config())
    save(tmp_path, Config())
    config = Config()
    config.algorithm.reward = "sparse"
    config.trainer.resume_mode = "disable"
    check_same_run(tmp_path, config)


def test_the_checkpoint_that_would_be_resumed_counts(tmp_path: Path) -> None:
    sparse = Config()
    sparse.algorithm.reward = "sparse"
    save(tmp_path, Config(), step=1)
    save(tmp_path, sparse, step=2)
    with pytest.raises(ValueError, match="'sparse' → 'srpo'"):
        check_same_run(tmp_path, Config())
    (tmp_path / "global_step_2" / "trainer_state.json").write_text("{")  # broken: step 1 would be resumed
    check_same_run(tmp_path, Config())
    sparse.trainer.resume_mode = "resume_path"
    sparse.trainer.resume_from_path = str(tmp_path / "global_step_1")
    with pytest.raises(ValueError, match="'srpo' → 'sparse'"):
        check_same_run(tmp_path, sparse)


def test_a_missing_resume_path_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = Config()
    config.trainer.resume_mode = "resume_path"
    config.trainer.resume_from_path = str(tmp_path / "global_step_9")
    with pytest.raises(ValueError, match="no such folder"):
        check_same_run(tmp_path, config)


def test_policies_are_compared_by_architecture_not_by_place(tmp_path: Path) -> None:
    for name, layers in (("old", 4), ("moved", 4), ("other", 5)):
        (tmp_path / name).mkdir()
        architecture = {"layers": layers, "_name_or_path": name, "transformers_version": name}
        (tmp_path / name / "config.json").write_text(json.dumps(architecture))
    config = Config()
    config.actor_rollout_ref.model.path = str(tmp_path / "old")
    save(tmp_path / "run", config)
    config.actor_rollout_ref.model.path = str(tmp_path / "moved")
    check_same_run(tmp_path / "run", config)
    config.actor_rollout_ref.model.path = str(tmp_path / "other")
    with pytest.raises(ValueError, match=r"actor_rollout_ref\.model\.path: layers: 4 → 5"):
        check_same_run(tmp_path / "run", config)
