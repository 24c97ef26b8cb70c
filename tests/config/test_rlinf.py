"""Files in RLinf's own form: they give the shipped config of the same name, or say what to change."""

import math
from pathlib import Path
from typing import Any

import pytest

from siirl.client.preflight import preflight
from siirl.config.keys import KEYS, get_value
from siirl.config.load import Reading, load_config, read_config
from tests.config.folders import policy_folder

FOLDER = Path(__file__).parent / "rlinf"
IMAGINED = "opensora_libero_spatial_grpo_openvlaoft"
NAMES = ["maniskill_ppo_openvla", "libero_10_grpo_openvlaoft", "libero_10_grpo_starvla", IMAGINED]
EMBODIED = "actor_rollout_ref.embodied"
OF_THE_RUN = {
    "trainer.default_local_dir",
    "trainer.project_name",
    "trainer.resume_mode",
    "trainer.seed",
    "trainer.logger",
    *(f"actor_rollout_ref.embodied.env.video_cfg.{name}" for name in ("save_video", "info_on_video", "video_base_dir")),
}
OF_VALIDATION = {
    "trainer.test_freq",
    "trainer.val_before_train",
    "actor_rollout_ref.embodied.env.num_holdout_trials",
    f"{EMBODIED}.val_env.env_type",
    f"{EMBODIED}.val_env.max_steps",
}
OF_THE_FOLDER = {"data.max_prompt_length", "actor_rollout_ref.model.path", "actor_rollout_ref.embodied.unnorm_key"}
UNUSED = {"actor_rollout_ref.actor.kl_loss_type", "actor_rollout_ref.embodied.env.num_steps_wait"}
OF_THE_WORLD_MODEL = {
    f"{EMBODIED}.env.world_model.{name}"
    for name in (
        *("path", "initial_image_path", "stats_path", "model_path", "vae_path", "reward_model_path"),
        "use_timestep_transform",  # here the model's own config.json says it
    )
}
WRITTEN_OTHERWISE = {"cluster.component_placement", "data.train_files", "data.val_files"}


def read(name: str, *overrides: str) -> Reading:
    return read_config(name, overrides, FOLDER)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_theirs_means_what_the_shipped_one_does(name: str) -> None:
    ours, theirs = read_config(name).config, read(name, "trainer.n_gpus_per_node=8").config
    different = {key for key in KEYS if get_value(ours, key) != get_value(theirs, key)}
    named = OF_THE_FOLDER | (OF_THE_WORLD_MODEL if name == IMAGINED else set())
    assert different - {"trainer.experiment_name"} <= OF_THE_RUN | OF_VALIDATION | named | UNUSED | WRITTEN_OTHERWISE


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_theirs_can_run(name: str, tmp_path: Path) -> None:
    folder = policy_folder(tmp_path)
    given = [f"actor.model.model_path={folder}", "cluster.num_gpus_per_node=8"]
    paths = [] if name == "maniskill_ppo_openvla" else [f"rollout.model.model_path={folder}"]
    config = load_config(name, [*given, *paths], FOLDER)
    assert config.actor_rollout_ref.model.path == str(folder)
    assert config.trainer.default_local_dir == "../results"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_theirs_asks_nothing_of_a_simulator_that_it_does_not_know(name: str) -> None:
    config = read(name, "trainer.n_gpus_per_node=8", "dry_run=true").config
    assert [line for line in preflight(config) if "which would ignore it" in line] == []


def test_a_mini_batch_that_cuts_a_prompt_is_told_the_nearest_one_that_does_not() -> None:
    (line,) = read("libero_10_grpo_starvla", "actor.global_batch_size=2048").problems
    assert "a multiple of the 480 chunks of a prompt" in line
    assert "Fix: actor.global_batch_size=1920" in line


def test_a_gaussian_of_theirs_is_not_tempered_and_evaluated_at_its_mean() -> None:
    rollout = read("libero_10_grpo_starvla").config.actor_rollout_ref.rollout
    assert (rollout.temperature, rollout.val_kwargs.do_sample) == (1.0, False)
    rollout = read("libero_10_grpo_starvla", "actor.model.model_type=openvla_oft").config.actor_rollout_ref.rollout
    assert (rollout.temperature, rollout.val_kwargs.do_sample) == (0.3, True)


@pytest.mark.parametrize(
    ("given", "std", "lr"),
    [
        ([], math.exp(-2), 1e-5),
        (["actor.model.initial_logstd=-1.5"], math.exp(-1.5), 1e-5),
        (["actor.model.trainable_logstd=false"], math.exp(-2), 0.0),
        (["actor_rollout_ref.model.action_noise.lr=1e-3"], math.exp(-2), 1e-3),
    ],
)
def test_a_spread_that_a_file_of_theirs_leaves_out_is_theirs(given: list[str], std: float, lr: float) -> None:
    reading = read("libero_10_grpo_starvla", *given)
    assert reading.problems == []
    noise = reading.config.actor_rollout_ref.model.action_noise
    assert (noise.initial_std, noise.lr) == (pytest.approx(std), lr)


def test_what_a_file_of_theirs_asks_for_in_vain_is_refused_by_name() -> None:
    problems = read("libero_10_grpo_openvlaoft", "reward.use_reward_model=true").problems
    assert [line.partition(":")[0] for line in problems] == ["reward.use_reward_model=true"]


def test_videos_go_where_a_file_of_theirs_says() -> None:
    video = read("libero_10_grpo_openvlaoft").config.actor_rollout_ref.embodied.env.video_cfg
    assert (video.save_video, video.info_on_video, video.video_base_dir) == (True, True, "../results/video/train")


def test_a_world_model_of_theirs_trains_and_the_simulator_validates() -> None:
    reading = read(IMAGINED, "trainer.n_gpus_per_node=8", "runner.val_check_interval=25")
    assert reading.problems == []
    embodied, folder = reading.config.actor_rollout_ref.embodied, "/path/to/model/RLinf-OpenSora-LIBERO-Spatial"
    assert (embodied.env.env_type, embodied.env.sim_backend, embodied.env.max_steps) == ("opensora_wm", "gpu", 256)
    assert (embodied.val_env.env_type, embodied.val_env.max_steps) == ("libero", 512)
    model = embodied.env.world_model
    assert (model.path, model.vae_path, model.initial_image_path) == (folder, f"{folder}/vae", f"{folder}/dataset/")
    assert (model.model_path, model.stats_path) == (
        f"{folder}/model-00001.safetensors",
        f"{folder}/dataset_statistics.json",
    )
    assert "PyTorch chooses the kernel" in reading.without_effect


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("env.train.world_model_cfg.image_size=[256,128]", "two equal numbers"),
        ("env.train.world_model_cfg.scheduler.type=ddpm", "rflow: frames are drawn by rectified flow"),
        ("env.train.world_model_cfg.vae.type=OpenSoraVAE_V1_2", "SDXL: frames are encoded one by one"),
        ("env.train.world_model_cfg.dtype=fp16", "one of fp32, bf16"),
    ],
)
def test_another_world_model_is_refused(override: str, allowed: str) -> None:
    (line,) = read(IMAGINED, "trainer.n_gpus_per_node=8", override).problems
    assert line.startswith(override.partition("=")[0])
    assert allowed in line


def test_settings_of_ppo_in_a_file_of_grpo_are_not_read() -> None:
    reading = read("libero_10_grpo_openvlaoft")
    assert (reading.config.algorithm.gamma, reading.config.critic.clip) == (1.0, 0.2)
    unread = reading.without_effect["read with gae only, and this is grpo"]
    assert {"algorithm.gamma", "algorithm.gae_lambda", "algorithm.value_clip", "algorithm.reward_type"} <= set(unread)


def test_what_concerns_validation_counts_if_there_is_one() -> None:
    name = "maniskill_ppo_openvla"
    assert "env.eval.*" in read(name).ignored()
    lines = read(name, "runner.val_check_interval=10").problems
    assert [line.partition(":")[0] for line in lines] == ["env.eval.max_episode_steps=40"]


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("env.train.total_num_envs=64", "data.train_batch_size", 128),
        ("env.train.total_num_envs=64", "actor_rollout_ref.embodied.env.num_envs", 16),
        ("env.train.max_steps_per_rollout_epoch=80", "data.train_batch_size", 128),
        ("algorithm.group_size=2", "data.train_batch_size", 128),
        ("algorithm.group_size=2", "actor_rollout_ref.actor.ppo_mini_batch_size", 4),
        ("data.train_batch_size=7", "data.train_batch_size", 7),
        ("algorithm.adv_type=grpo", "critic.use_critic_model", False),
        ("algorithm.adv_type=grpo", "critic.loss_coef", 0.5),
        ("critic.use_critic_model=true", "critic.use_critic_model", True),
        ("actor.model.precision=fp32", "actor_rollout_ref.model.dtype", "fp32"),
    ],
)
def test_the_command_line_changes_a_file_of_theirs(override: str, key: str, expected: Any) -> None:
    reading = read("maniskill_ppo_openvla", "trainer.n_gpus_per_node=8", override)
    assert reading.problems == []
    assert get_value(reading.config, key) == expected


def test_the_earlier_form_is_read() -> None:
    reading = read("earlier", "trainer.n_gpus_per_node=8")
    assert reading.problems == []
    config, ref = reading.config, reading.config.actor_rollout_ref
    assert (config.data.train_batch_size, ref.actor.ppo_mini_batch_size, ref.embodied.env.num_envs) == (512, 16, 8)
    assert (config.algorithm.reward_type, config.algorithm.reward, config.critic.use_critic_model) == (
        "action_level",
        "sparse",
        True,
    )
    assert (ref.rollout.top_k, ref.rollout.val_kwargs.do_sample, ref.model.path) == (50, False, "/path/to/model")
    assert config.data.train_files == "data/libero_10/train.parquet"


def test_two_of_their_spellings_must_agree(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("algorithm: {auto_reset: true}\nenv: {train: {auto_reset: false}}")
    (line,) = read_config("mine", [], tmp_path).problems
    assert line.startswith("env.train.auto_reset=false: allowed: true, since algorithm.auto_reset=true is the same")
