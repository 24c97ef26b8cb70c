"""What stops a run before it starts, beyond the config alone: names, tasks, lengths and the policy folder."""

import json
import re
from pathlib import Path

import pytest

from siirl.client.preflight import preflight
from siirl.config.keys import set_value
from siirl.config.load import ConfigError, parse_command_line
from siirl.config.schema import Config
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.policies.tiny import HEAD_FILE, tiny_openvla_folder, tiny_parts_folder, tiny_policy_folder

REF = "actor_rollout_ref"
ENV = f"{REF}.embodied.env"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy_folder(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def config(folder: Path) -> Config:
    config = Config()
    config.actor_rollout_ref.model.path = str(folder)
    return config


def test_the_defaults_pass(config: Config) -> None:
    assert preflight(config) == []


WRONG = [
    # the values given, the start of the line, a part of it
    ({"algorithm.reward": "spars"}, "algorithm.reward=spars", "Did you mean 'sparse'?"),
    ({"algorithm.adv_estimator": "grop"}, "algorithm.adv_estimator=grop", "grpo"),
    ({f"{REF}.embodied.video_encoder": "vjepa"}, f"{REF}.embodied.video_encoder=vjepa", "vjepa2"),
    ({f"{ENV}.env_type": "liber"}, f"{ENV}.env_type=liber", "Did you mean 'libero'?"),
    ({f"{REF}.embodied.embodied_type": "openvla_oft"}, f"{REF}.embodied.embodied_type=openvla_oft", "openvla-oft"),
    ({f"{ENV}.env_name": "libero_spatal"}, f"{ENV}.env_name=libero_spatal", "Did you mean 'libero_spatial'?"),
    ({f"{ENV}.task_ids": [0, 12]}, f"{ENV}.env_name=libero_spatial, {ENV}.task_ids=[0,12]", "12"),
    ({f"{ENV}.num_trials_per_task": 51}, f"{ENV}.num_trials_per_task=51", f"{ENV}.num_trials_per_task=50"),
    ({"data.train_batch_size": 501}, "data.train_batch_size=501", "at most 500"),
    (
        {f"{ENV}.task_ids": [3], f"{ENV}.num_holdout_trials": 10, "data.train_batch_size": 41},
        "data.train_batch_size=41",
        "at most 40",
    ),
    (
        {"data.train_batch_size": 300, "algorithm.embodied_sampling.oversample_factor": 2.0},
        "data.train_batch_size=300",
        "oversample_factor=2.0",
    ),
    ({"trainer.backend": "inline"}, f"{ENV}.num_envs=2", "at most 1"),
    ({f"{REF}.rollout.response_length": 100}, f"{REF}.rollout.response_length=100", "libero_spatial"),
    ({f"{REF}.embodied.unnorm_key": "bridge"}, f"{REF}.model.path=", "unnorm_key 'bridge'"),
    ({f"{REF}.embodied.action_chunks_len": 5}, f"{REF}.model.path=", "action_chunks_len is 5"),
    ({"data.max_prompt_length": 5}, "data.max_prompt_length=5", "at least"),
    ({f"{ENV}.asset_dir": "/"}, f"{ENV}.asset_dir=/", f"null with {ENV}.env_type=libero, which would ignore it"),
    ({f"{ENV}.camera_fov": 0.9}, f"{ENV}.camera_fov=0.9", "which would ignore it"),
]


def test_a_plan_without_a_policy_folder_must_fit_the_policys_class(config: Config) -> None:
    config.dry_run, config.actor_rollout_ref.model.path = True, ""
    assert preflight(config) == []
    config.actor_rollout_ref.embodied.embodied_type = "openvla"
    (line,) = preflight(config)
    assert line.startswith(f"{REF}.embodied.embodied_type=openvla: {REF}.embodied.action_chunks_len is 8")
    assert "Set it to 1" in line
    config.actor_rollout_ref.embodied.action_chunks_len = 1
    assert preflight(config) == []


@pytest.mark.parametrize(("values", "start", "part"), WRONG, ids=[start for _, start, _ in WRONG])
def test_wrong(config: Config, values: dict, start: str, part: str) -> None:
    for key, value in values.items():
        set_value(config, key, value)
    (line,) = preflight(config)
    assert line.startswith(start)
    assert part in line


@pytest.mark.parametrize(
    ("continuous", "key", "value", "part"),
    [
        (True, f"{REF}.rollout.top_k", 5, "-1 with .* no number is among the likeliest"),
        (True, f"{REF}.rollout.top_p", 0.9, "1.0 with .* draws from a Gaussian"),
        (False, f"{REF}.model.action_noise.initial_std", 0.2, "0.1 with .* draws tokens"),
    ],
)
def test_settings_of_another_distribution_are_refused(
    config: Config, continuous: bool, key: str, value: float, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVLAOFT, "continuous", continuous)
    assert preflight(config) == []
    set_value(config, key, value)
    (line,) = preflight(config)
    assert re.match(rf"{re.escape(key)}={value}: allowed: {part}", line)


def test_prompts_as_long_as_allowed_pass(config: Config) -> None:
    config.data.max_prompt_length = 1
    (line,) = preflight(config)
    config.data.max_prompt_length = int(line.rpartition("data.max_prompt_length=")[2].rstrip("."))
    assert preflight(config) == []


def test_libero_long_and_its_statistics_are_found_under_either_name(
    folder: Path, config: Config, tmp_path: Path
) -> None:
    named = tiny_policy_folder(tmp_path)
    statistics = (named / "dataset_statistics.json").read_text().replace("libero_spatial", "libero_10")
    (named / "dataset_statistics.json").write_text(statistics)
    config.actor_rollout_ref.model.path = str(named)
    config.actor_rollout_ref.embodied.unnorm_key = "libero_long"
    config.actor_rollout_ref.embodied.env.env_name = "libero_long"
    assert preflight(config) == []


def test_missing_files_of_the_policy_are_named(config: Config, tmp_path: Path) -> None:
    named = tiny_policy_folder(tmp_path)
    config.actor_rollout_ref.model.path = str(named)
    (named / "model.safetensors").rename(named / "elsewhere")
    (line,) = preflight(config)
    assert "no model.safetensors" in line
    (named / "model.safetensors").write_bytes((named / "elsewhere").read_bytes()[:-1])
    (line,) = preflight(config)
    assert "model.safetensors is no safetensors file, or cut short" in line
    (named / "elsewhere").rename(named / "model.safetensors")
    (named / "tokenizer.json").unlink()
    (line,) = preflight(config)
    assert "no tokenizer.json" in line


def test_openvla_decides_on_one_action_at_a_time(config: Config, tmp_path: Path) -> None:
    embodied = config.actor_rollout_ref.embodied
    config.actor_rollout_ref.model.path, embodied.embodied_type = str(tiny_openvla_folder(tmp_path)), "openvla"
    (line,) = preflight(config)
    assert "action_chunks_len is 8" in line
    assert "Set it to 1" in line
    embodied.action_chunks_len = 1
    assert preflight(config) == []


def test_a_policy_that_regresses_actions_is_validated_but_never_trained(config: Config, tmp_path: Path) -> None:
    embodied, trainer = config.actor_rollout_ref.embodied, config.trainer
    config.actor_rollout_ref.model.path, embodied.num_images_in_input = str(tiny_parts_folder(tmp_path)), 2
    (line,) = preflight(config)
    assert f"this checkpoint regresses actions: there is {HEAD_FILE}. It has no distribution to train by RL" in line
    embodied.embodied_type, config.actor_rollout_ref.rollout.val_kwargs.do_sample = "openvla-oft-l1", True
    only, sample = preflight(config)
    assert only.startswith("trainer.val_only=false")
    assert "this checkpoint regresses actions; it has no distribution to train by RL" in only
    assert sample.startswith(f"{REF}.rollout.val_kwargs.do_sample=true")
    trainer.val_only, config.actor_rollout_ref.rollout.val_kwargs.do_sample = True, False
    assert preflight(config) == []
    embodied.num_images_in_input = 1
    (line,) = preflight(config)
    assert "trained with this many camera views: 2. Set it to 2" in line


def test_a_validation_does_not_spoil_a_training_run(config: Config, tmp_path: Path) -> None:
    config.trainer.val_only, config.trainer.default_local_dir = True, str(tmp_path)
    assert preflight(config) == []
    (tmp_path / "global_step_1").mkdir()
    (line,) = preflight(config)
    assert line.startswith(f"trainer.default_local_dir={tmp_path}")
    assert "a folder without checkpoints with trainer.val_only=true" in line
    (tmp_path / "global_step_1").rmdir()
    (tmp_path / "metrics.jsonl").touch()
    assert preflight(config) == [], "it holds no results"
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    (line,) = preflight(config)
    assert line.startswith(f"trainer.default_local_dir={tmp_path}")
    assert "a folder without metrics.jsonl with trainer.val_only=true" in line
    assert "Fix: trainer.default_local_dir=<another folder>" in line
    config.dry_run = True
    assert preflight(config) == []


@pytest.mark.parametrize(("held_out", "task_ids"), [(50, None), (49, [0])])
def test_a_validation_needs_no_training_prompts(config: Config, held_out: int, task_ids: list[int] | None) -> None:
    env = config.actor_rollout_ref.embodied.env
    env.num_holdout_trials, env.task_ids, config.trainer.val_only = held_out, task_ids, True
    assert preflight(config) == []
    env.num_trials_per_task = 51
    (line,) = preflight(config)
    assert "at most 50, the trials that libero_spatial has" in line


@pytest.mark.parametrize(
    ("unnorm_key", "env_name", "refused"),
    [
        ("libero_goal", "libero_spatial", True),
        ("libero_goal_no_noops", "libero_spatial", True),
        ("libero_long_no_noops", "libero_spatial", True),
        ("libero_90", "libero_10", True),
        ("libero_goal", "libero_spatial_swap", True),
        ("libero_goal", "libero_goal_swap", False),
        ("libero_goal_no_noops", "libero_goal", False),
        ("libero_10_no_noops", "libero_long", False),
        ("libero_90_no_noops_trajall", "libero_10", False),
        ("libero_4_mixture", "libero_goal", False),
    ],
)
def test_statistics_of_another_suite_are_refused(
    config: Config, tmp_path: Path, unnorm_key: str, env_name: str, refused: bool
) -> None:
    named = tiny_policy_folder(tmp_path)
    (statistics,) = json.loads((named / "dataset_statistics.json").read_text()).values()
    (named / "dataset_statistics.json").write_text(json.dumps({unnorm_key: statistics}))
    embodied, config.actor_rollout_ref.model.path = config.actor_rollout_ref.embodied, str(named)
    embodied.unnorm_key, embodied.env.env_name = unnorm_key, env_name
    lines = preflight(config)
    assert len(lines) == refused
    for line in lines:
        assert line.startswith(f"{REF}.embodied.unnorm_key={unnorm_key}: allowed: ")
        suite = unnorm_key.removesuffix("_no_noops")
        assert f"{ENV}.env_name={env_name}" in line
        assert f"Fix: {ENV}.env_name={suite} to run" in line


@pytest.mark.parametrize(("key", "value"), [(f"{ENV}.task_ids", []), (f"{ENV}.num_holdout_trials", 50)])
def test_what_the_config_checks_report_is_not_reported_twice(config: Config, key: str, value: object) -> None:
    set_value(config, key, value)
    assert preflight(config) == []


VIDEO_WEIGHTS = f"{REF}.embodied.video_embedding_model_path"


@pytest.mark.parametrize("encoder", ["auto", "vjepa2"])
@pytest.mark.parametrize("content", [b"", b"half a download"])
def test_damaged_video_weights_are_refused_before_anything_starts(
    config: Config, tmp_path: Path, encoder: str, content: bytes
) -> None:
    weights, embodied = tmp_path / "vitg.pt", config.actor_rollout_ref.embodied
    weights.write_bytes(content)
    embodied.video_encoder, embodied.video_embedding_model_path = encoder, str(weights)
    (line,) = preflight(config)
    assert line == (
        f"{VIDEO_WEIGHTS}={weights}: not a PyTorch checkpoint (a zip archive), or cut short; download it again"
    )
    config.algorithm.reward = "sparse"
    assert preflight(config) == [], "it is not read"
    config.algorithm.reward, config.trainer.val_only = "srpo", True
    assert preflight(config) == [], "nor here"


def test_sound_video_weights_must_fit_the_settings(config: Config) -> None:
    weights, embodied = Path(__file__).parents[1] / "golden" / "vjepa2_dev.pt", config.actor_rollout_ref.embodied
    embodied.video_embedding_model_path, embodied.embedding_img_size = str(weights), 64
    assert preflight(config) == []
    embodied.embedding_img_size = 60
    (line,) = preflight(config)
    assert line.startswith(f"{VIDEO_WEIGHTS}={weights}: embedding_img_size=60 must be a multiple")


def test_a_dry_run_needs_no_policy(config: Config) -> None:
    config.dry_run, config.actor_rollout_ref.model.path = True, ""
    assert preflight(config) == []


def test_everything_is_reported_at_once(folder: Path) -> None:
    argv = [
        f"{REF}.model.path={folder}",
        "algorithm.reward=dense",
        f"{ENV}.env_name=libero_x",
        f"{REF}.embodied.unnorm_key=x",
        "trainer.save_freq=0",
        "data.shufle=true",
    ]
    with pytest.raises(ConfigError) as caught:
        parse_command_line(argv, preflight)
    assert len(caught.value.problems) == 5


@pytest.fixture
def maniskill(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config of ManiSkill, on a machine that can run it."""
    monkeypatch.setattr("siirl.envs.maniskill.check_installed", lambda: None)
    monkeypatch.setattr("siirl.envs.maniskill.check_rendering", lambda env: None)
    env = config.actor_rollout_ref.embodied.env
    env.env_type, env.env_name = "maniskill", "PickCube-v1"
    env.num_trials_per_task = 100  # the suite is one task
    return config


def test_maniskill_passes_with_as_many_seeds_as_wanted(maniskill: Config) -> None:
    assert preflight(maniskill) == []
    maniskill.actor_rollout_ref.embodied.env.num_trials_per_task = 5000
    maniskill.data.train_batch_size = 5000
    assert preflight(maniskill) == []


@pytest.mark.parametrize(
    ("values", "start", "part"),
    [
        ({"env_name": "PickCub-v1"}, f"{ENV}.env_name=PickCub-v1", "Did you mean 'PickCube-v1'?"),
        ({"antialiasing": False}, f"{ENV}.antialiasing=false", f"true with {ENV}.env_type=maniskill"),
        ({"max_texture_size": 64}, f"{ENV}.max_texture_size=64", "which would ignore it"),
        ({"num_steps_wait": 5}, f"{ENV}.num_steps_wait=5", "10 with"),
        ({"asset_dir": "/nowhere"}, f"{ENV}.env_name=PickCube-v1", "env.asset_dir=/nowhere is no folder"),
    ],
)
def test_what_maniskill_cannot_do_is_refused(maniskill: Config, values: dict, start: str, part: str) -> None:
    for name, value in values.items():
        set_value(maniskill, f"{ENV}.{name}", value)
    (problem,) = preflight(maniskill)
    assert problem.startswith(start)
    assert part in problem


def test_a_robot_without_a_camera_on_its_wrist_is_named(maniskill: Config) -> None:
    maniskill.actor_rollout_ref.embodied.num_images_in_input = 2
    problems = [line for line in preflight(maniskill) if "num_images_in_input=2" in line]
    assert any("the robot of" in line and "PickCube-v1 has no camera on its wrist" in line for line in problems)
    maniskill.actor_rollout_ref.embodied.env.env_name = "StackCube-v1"
    assert not any("no camera on its wrist" in line for line in preflight(maniskill))


def test_a_machine_that_cannot_draw_stops_a_run_but_no_plan(maniskill: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(env: object) -> None:
        raise ValueError("no Vulkan")

    monkeypatch.setattr("siirl.envs.maniskill.check_rendering", refuse)
    assert preflight(maniskill) == [f"{ENV}.env_type=maniskill: no Vulkan"]
    maniskill.dry_run = True
    assert preflight(maniskill) == []
    maniskill.dry_run, maniskill.trainer.nnodes = False, 2
    assert preflight(maniskill) == [], "simulators may run on other machines than this"
