"""What a world model cannot do is refused before anything starts, and a plan needs nothing to be there."""

from pathlib import Path

import pytest

from siirl.client.plan import main as plan
from siirl.client.preflight import preflight
from siirl.client.prompts import find_prompts
from siirl.config.keys import set_value
from siirl.config.schema import Config
from tests.envs.world_model.small import MARK, small_world
from tests.policies.tiny import tiny_policy_folder

REF = "actor_rollout_ref"
ENV, EMBODIED = f"{REF}.embodied.env", f"{REF}.embodied"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy_folder(tmp_path_factory.mktemp("policy"), use_proprio=False)


@pytest.fixture
def config(policy: Path, tmp_path: Path) -> Config:
    """A run that is imagined and validated in the toy simulator."""
    made = Config()
    embodied = made.actor_rollout_ref.embodied
    made.actor_rollout_ref.model.path = str(policy)
    embodied.env = small_world(tmp_path)
    embodied.env.num_trials_per_task, embodied.env.max_steps = 12, 40
    embodied.val_env.env_type, embodied.val_env.num_trials_per_task, embodied.val_env.num_holdout_trials = "toy", 6, 2
    made.data.train_batch_size, made.actor_rollout_ref.actor.ppo_mini_batch_size = 4, 4
    made.data.train_files, made.data.val_files = str(tmp_path / "t.parquet"), str(tmp_path / "v.parquet")
    made.trainer.default_local_dir, made.trainer.logger = str(tmp_path / "run"), []
    return made


def test_training_in_imagination_with_validation_elsewhere_passes(config: Config) -> None:
    assert preflight(config) == []
    train, validate = find_prompts(config)
    assert [prompt.trial_id for prompt in train] == list(range(12))
    assert [prompt.trial_id for prompt in validate] == [4, 5]


@pytest.mark.parametrize(
    ("values", "start", "part"),
    [
        ({f"{EMBODIED}.action_chunks_len": 4}, f"{EMBODIED}.action_chunks_len=4", "8 with"),
        ({f"{EMBODIED}.num_executed_actions": 4}, f"{EMBODIED}.num_executed_actions=4", "8 with"),
        (
            {f"{ENV}.world_model.cpu_threads": 2, f"{ENV}.sim_backend": "gpu", "dry_run": True},
            f"{ENV}.world_model.cpu_threads=2",
            "null with",
        ),
        ({f"{ENV}.world_model.offload": True}, f"{ENV}.world_model.offload=true", "no accelerator to offload from"),
        ({f"{ENV}.world_model.use_torch_compile": True}, f"{ENV}.step_timeout=120.0", "at least 600 with"),
        ({f"{EMBODIED}.num_images_in_input": 2}, f"{EMBODIED}.num_images_in_input=2", "imagines the main camera alone"),
        ({f"{ENV}.world_model.path": None}, f"{ENV}.world_model.path=null", "as siirl.client.train_world_model writes"),
        ({f"{ENV}.image_size": 64}, f"{ENV}.env_name=toy", "are 32×32; allowed"),
        ({f"{ENV}.num_trials_per_task": 13}, f"{ENV}.num_trials_per_task=13", "at most 12"),
        ({f"{EMBODIED}.val_env.num_trials_per_task": 13}, f"{EMBODIED}.val_env.num_trials_per_task=13", "at most 12"),
        ({f"{EMBODIED}.val_env.env_type": "toi"}, f"{EMBODIED}.val_env.env_type=toi", "Did you mean 'toy'?"),
        ({"trainer.deterministic": True}, f"{ENV}.world_model.batch_size=null", "1 with trainer.deterministic=true"),
    ],
)
def test_wrong(config: Config, values: dict[str, object], start: str, part: str) -> None:
    for key, value in values.items():
        set_value(config, key, value)
    line, *others = preflight(config)
    assert line.startswith(start)
    assert part in line
    assert not [other for other in others if other.startswith((ENV, f"{EMBODIED}.val_env"))], (
        "the policy may object, too"
    )


def test_a_policy_that_needs_proprioception_is_refused(config: Config, tmp_path: Path) -> None:
    config.actor_rollout_ref.model.path = str(tiny_policy_folder(tmp_path / "proprio", use_proprio=True))
    (line,) = preflight(config)
    assert "a policy without use_proprio with" in line


def test_missing_files_are_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / MARK).unlink()
    (line,) = preflight(config)
    assert f"lacks {MARK}" in line


def test_settings_of_a_world_model_mean_nothing_without_one(config: Config) -> None:
    config.actor_rollout_ref.embodied.env.env_type = "toy"
    config.actor_rollout_ref.embodied.env.num_trials_per_task = 12
    lines = preflight(config)
    assert [line.partition(":")[0] for line in lines] == [
        f"{ENV}.world_model.path={config.actor_rollout_ref.embodied.env.world_model.path}",
        f"{ENV}.world_model.wm_env_type=toy",
    ]


def test_the_documented_config_is_planned_with_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(["--config-name=opensora_libero_spatial_grpo_openvlaoft"]) == 0
    text = capsys.readouterr().out
    assert "in opensora_wm, to train: 10 of libero_spatial: 0-9; episodes of at most 256 steps" in text
    assert "in libero, to validate: 10 of libero_spatial: 0-9; episodes of at most 512 steps" in text
    assert "8 simulators; 8 simulators to validate" in text.replace(", 8 simulators to", "; 8 simulators to")


def test_a_named_folder_must_be_there_even_for_a_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = f"{ENV}.world_model.path={tmp_path / 'nowhere'}"
    assert plan(["--config-name=opensora_libero_spatial_grpo_openvlaoft", missing]) == 2
    assert "there is no world model folder" in capsys.readouterr().err
