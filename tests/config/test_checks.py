"""Impossible combinations: each is refused with the key, the value, what is allowed and the fix; its neighbours pass."""

from pathlib import Path

import pytest

from siirl.config.checks import check_config
from siirl.config.keys import KEYS, set_value
from siirl.config.load import load_config
from siirl.config.schema import Config
from tests.config.folders import policy_folder

REF = "actor_rollout_ref"
ENV = f"{REF}.embodied.env"
EXECUTED = f"{REF}.embodied.num_executed_actions"
NOISE, STARVLA = f"{REF}.model.action_noise", f"{REF}.model.starvla"
SAMPLING = "algorithm.embodied_sampling"
RESUME = "trainer.resume_from_path"
TRAIN, VAL = f"{ENV}.video_cfg", f"{ENV}.val_video_cfg"
VIDEOS = {f"{TRAIN}.save_video": True, f"{VAL}.save_video": True}
GREEDY = {
    f"{REF}.rollout.n": 1,
    f"{REF}.rollout.do_sample": False,
    f"{SAMPLING}.filter_accuracy": False,
    "algorithm.adv_estimator": "reinforce_plus_plus",
}
PPO = {"algorithm.adv_estimator": "gae", "critic.use_critic_model": True}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config()
    config.actor_rollout_ref.model.path = str(policy_folder(tmp_path))
    assert check_config(config) == []
    return config


IMPOSSIBLE = [
    # the values given, the key to blame, a part of the line
    ({f"{SAMPLING}.accuracy_lower_bound": 0.95}, f"{SAMPLING}.accuracy_lower_bound=0.95", "accuracy_upper_bound=0.9"),
    (
        {f"{SAMPLING}.accuracy_lower_bound": 0.01, f"{SAMPLING}.accuracy_upper_bound": 0.1},
        f"{SAMPLING}.accuracy_lower_bound=0.01",
        "k/8",
    ),
    ({f"{ENV}.sim_backend": "gpu"}, f"{ENV}.sim_backend=gpu", "cpu with trainer.n_gpus_per_node=0"),
    ({f"{SAMPLING}.filter_truncated": True}, f"{SAMPLING}.filter_truncated=true", "accuracy_upper_bound=1.0"),
    (
        {f"{SAMPLING}.filter_accuracy": False, "algorithm.filter_groups.max_num_gen_batches": 3},
        "algorithm.filter_groups.max_num_gen_batches=3",
        "filter_accuracy=true",
    ),
    (
        {f"{SAMPLING}.filter_accuracy": False, f"{SAMPLING}.oversample_factor": 1.5},
        f"{SAMPLING}.oversample_factor=1.5",
        "nothing is dropped",
    ),
    (
        VIDEOS
        | {
            "trainer.default_local_dir": "run",
            f"{VAL}.video_base_dir": "run/v",
            f"{TRAIN}.video_base_dir": "run/x/../v",
        },
        f"{VAL}.video_base_dir=run/v",
        f"another folder than that of {TRAIN}",
    ),
    (
        VIDEOS | {"trainer.default_local_dir": "run", f"{TRAIN}.video_base_dir": "run/videos/val"},
        f"{VAL}.video_base_dir=null",
        f"another folder than that of {TRAIN}",
    ),
    (PPO | {"algorithm.bootstrap_type": "always"}, "algorithm.bootstrap_type=always", "nothing comes after it"),
    ({"algorithm.reward_scale": 5.0}, "algorithm.reward_scale=5.0", "1.0 with algorithm.adv_estimator=grpo"),
    ({f"{REF}.rollout.do_sample": False}, f"{REF}.rollout.n=8", f"{REF}.rollout.do_sample=true"),
    ({f"{REF}.rollout.val_kwargs.n": 2}, f"{REF}.rollout.val_kwargs.n=2", "val_kwargs.do_sample=true"),
    ({f"{REF}.rollout.top_k": 0}, f"{REF}.rollout.top_k=0", "-1 for off"),
    ({f"{REF}.rollout.val_kwargs.top_k": 0}, f"{REF}.rollout.val_kwargs.top_k=0", "-1 for off"),
    ({**GREEDY, f"{REF}.rollout.top_k": 5}, f"{REF}.rollout.top_k=5", f"{REF}.rollout.do_sample=true"),
    ({**GREEDY, f"{REF}.rollout.top_p": 0.9}, f"{REF}.rollout.top_p=0.9", "draws nothing"),
    ({f"{REF}.rollout.val_kwargs.top_k": 5}, f"{REF}.rollout.val_kwargs.top_k=5", "val_kwargs.do_sample=true"),
    ({f"{REF}.rollout.val_kwargs.top_p": 0.9}, f"{REF}.rollout.val_kwargs.top_p=0.9", "val_kwargs.do_sample=true"),
    ({f"{REF}.rollout.val_kwargs.temperature": 0.7}, f"{REF}.rollout.val_kwargs.temperature=0.7", "would ignore it"),
    ({"data.train_batch_size": 3}, f"{REF}.actor.ppo_mini_batch_size=4", "data.train_batch_size=3"),
    (
        {"trainer.total_training_steps": 10, f"{REF}.actor.optim.lr_warmup_steps": 160},
        f"{REF}.actor.optim.lr_warmup_steps=160",
        "below 160",
    ),
    (
        {**PPO, "trainer.total_training_steps": 10, "critic.warmup_steps": 200},
        "critic.warmup_steps=200",
        "below 160",
    ),
    ({"data.val_files": "data/train.parquet"}, "data.val_files=data/train.parquet", "different names"),
    ({f"{REF}.actor.optim.betas": [0.9]}, f"{REF}.actor.optim.betas=[0.9]", "[0.9,0.999]"),
    ({f"{REF}.actor.optim.betas": [0.9, 1.0]}, f"{REF}.actor.optim.betas=[0.9,1.0]", "< 1"),
    ({f"{REF}.embodied.action_chunks_len": 20}, "data.max_response_length=128", "at least 140"),
    ({f"{ENV}.max_steps": 7}, f"{REF}.embodied.action_chunks_len=8", "at most the episode's 7 steps"),
    ({EXECUTED: 9}, f"{EXECUTED}=9", f"at most {REF}.embodied.action_chunks_len=8"),
    ({EXECUTED: 6, f"{ENV}.max_steps": 5}, f"{EXECUTED}=6", "at most the episode's 5 steps"),
    ({f"{NOISE}.initial_std": 0.6}, f"{NOISE}.initial_std=0.6", f"{NOISE}.initial_std=0.5, or wider bounds"),
    ({f"{NOISE}.min_std": 0.6}, f"{NOISE}.min_std=0.6", f"at most {NOISE}.max_std=0.5"),
    (
        {f"{STARVLA}.framework_name": "QwenOFT"},
        f"{STARVLA}.framework_name=QwenOFT",
        f"null with {REF}.embodied.embodied_type=openvla-oft, which would ignore it",
    ),
    (
        {f"{REF}.embodied.embodied_type": "starvla", f"{STARVLA}.expected_num_action_chunks": 16},
        f"{STARVLA}.expected_num_action_chunks=16",
        f"{REF}.embodied.action_chunks_len=8, or null",
    ),
    (
        {f"{REF}.embodied.embodied_type": "starvla", f"{STARVLA}.expected_action_dim": 14},
        f"{STARVLA}.expected_action_dim=14",
        f"Fix: {STARVLA}.expected_action_dim=7",
    ),
    ({f"{ENV}.max_steps": 521}, f"{REF}.rollout.response_length=520", f"{REF}.rollout.response_length=521"),
    ({f"{ENV}.num_holdout_trials": 50}, f"{ENV}.num_holdout_trials=50", "num_trials_per_task=50"),
    (
        {f"{ENV}.num_holdout_trials": 51, "trainer.val_only": True},
        f"{ENV}.num_holdout_trials=51",
        f"Fix: {ENV}.num_holdout_trials=50",
    ),
    ({f"{ENV}.task_ids": []}, f"{ENV}.task_ids=[]", "null"),
    ({f"{ENV}.task_ids": [1, 1]}, f"{ENV}.task_ids=[1,1]", "once"),
    ({f"{REF}.rollout.pipeline_stage_num": 3}, f"{REF}.rollout.pipeline_stage_num=3", f"{ENV}.num_envs=2"),
    (
        {f"{REF}.embodied.embedding_model_offload": True, "trainer.n_gpus_per_node": 1},
        f"{REF}.embodied.embedding_model_offload=true",
        "has no weights",
    ),
    ({"trainer.save_freq": 0}, "trainer.save_freq=0", "trainer.save_freq=-1"),
    ({"trainer.test_freq": 0}, "trainer.test_freq=0", "trainer.test_freq=-1"),
    ({"trainer.logger": ["console", "console"]}, "trainer.logger=[console,console]", "trainer.logger=[console]"),
    ({RESUME: "ckpts"}, f"{RESUME}=ckpts", "trainer.resume_mode=resume_path"),
    ({"trainer.resume_mode": "resume_path"}, f"{RESUME}=null", "global_step_N"),
    (
        {"trainer.val_only": True, "trainer.resume_mode": "resume_path", RESUME: "."},
        "trainer.resume_mode=resume_path",
        "resumes nothing",
    ),
    ({"trainer.resume_mode": "resume_path", RESUME: "no/such"}, f"{RESUME}=no/such", "existing"),
    ({f"{REF}.model.path": ""}, f"{REF}.model.path=", "model=start_policy"),
    ({f"{REF}.model.path": "/no/such/folder"}, f"{REF}.model.path=/no/such/folder", "no such folder"),
    ({f"{REF}.model.lora_alpha": 32}, f"{REF}.model.lora_alpha=32", f"{REF}.model.lora_rank=0"),
    ({f"{REF}.model.target_modules": ["q_proj"]}, f"{REF}.model.target_modules=[q_proj]", f"{REF}.model.lora_rank=0"),
    ({f"{REF}.model.lora_rank": 8, "trainer.val_only": True}, f"{REF}.model.lora_rank=8", "trainer.val_only=true"),
    ({f"{REF}.model.lora_rank": 8, f"{REF}.model.target_modules": []}, f"{REF}.model.target_modules=[]", "all-linear"),
    (
        {f"{REF}.model.lora_rank": 8, f"{REF}.model.target_modules": ["all-linear", "q_proj"]},
        f"{REF}.model.target_modules=[all-linear,q_proj]",
        "all-linear alone",
    ),
    ({f"{REF}.model.path": "~/model"}, f"{REF}.model.path=~/model", "$HOME/model"),
    (
        {f"{REF}.model.path": "Sylvest/OpenVLA-AC-PD-1traj-libero-long"},
        f"{REF}.model.path=Sylvest/OpenVLA-AC-PD-1traj-libero-long",
        "hf download Sylvest/OpenVLA-AC-PD-1traj-libero-long --local-dir models/OpenVLA-AC-PD-1traj-libero-long",
    ),
    (
        {f"{REF}.embodied.video_encoder": "vjepa2"},
        f"{REF}.embodied.video_embedding_model_path=null",
        "video_encoder=pixels",
    ),
    (
        {f"{REF}.embodied.video_encoder": "pixels", f"{REF}.embodied.video_embedding_model_path": "x.pt"},
        f"{REF}.embodied.video_embedding_model_path=x.pt",
        "video_encoder=vjepa2",
    ),
    (
        {f"{REF}.embodied.video_embedding_model_path": "no/such.pt"},
        f"{REF}.embodied.video_embedding_model_path=no/such.pt",
        "hf download",
    ),
]


@pytest.mark.parametrize(("values", "blamed", "part"), IMPOSSIBLE, ids=[blamed for _, blamed, _ in IMPOSSIBLE])
def test_impossible(config: Config, values: dict, blamed: str, part: str) -> None:
    for key, value in values.items():
        set_value(config, key, value)
    (line,) = check_config(config)
    assert line.startswith(f"{blamed}: allowed: ")
    assert part in line
    assert any(key in line.partition(" Fix: ")[2] for key in [*KEYS, "name", "give", "download", "widen", "use"])


POSSIBLE = [
    PPO | {"algorithm.bootstrap_type": "always", "algorithm.reward": "sparse"},
    VIDEOS | {f"{TRAIN}.video_base_dir": "logs", f"{VAL}.video_base_dir": "logs"},  # with a part for each
    {f"{SAMPLING}.accuracy_lower_bound": 0.5, f"{SAMPLING}.accuracy_upper_bound": 0.5},
    {**GREEDY, f"{REF}.rollout.temperature": 0.5},
    {f"{REF}.rollout.top_k": 1, f"{REF}.rollout.top_p": 0.5},
    {
        f"{REF}.rollout.val_kwargs.do_sample": True,
        f"{REF}.rollout.val_kwargs.temperature": 0.7,
        f"{REF}.rollout.val_kwargs.top_k": 5,
        f"{REF}.rollout.val_kwargs.top_p": 0.9,
    },
    {f"{SAMPLING}.filter_truncated": True, f"{SAMPLING}.accuracy_upper_bound": 1.0},
    {f"{SAMPLING}.filter_truncated": True, f"{ENV}.env_type": "another"},
    {f"{SAMPLING}.oversample_factor": 2.0, "algorithm.filter_groups.max_num_gen_batches": 4},
    {f"{SAMPLING}.filter_accuracy": False, f"{SAMPLING}.accuracy_lower_bound": 0.3},
    {f"{REF}.rollout.val_kwargs.n": 2, f"{REF}.rollout.val_kwargs.do_sample": True},
    {"data.train_batch_size": 4},
    {"trainer.total_training_steps": 10, f"{REF}.actor.optim.lr_warmup_steps": 159},
    {f"{REF}.actor.optim.lr_warmup_steps": 1000},
    {f"{ENV}.max_steps": 8},
    {EXECUTED: 8},
    {EXECUTED: 5, f"{ENV}.max_steps": 5},
    {f"{NOISE}.initial_std": 0.5, f"{NOISE}.min_std": 0.5},
    {
        f"{REF}.embodied.embodied_type": "starvla",
        f"{STARVLA}.expected_action_dim": 7,
        f"{STARVLA}.expected_num_action_chunks": 8,
    },
    {f"{ENV}.max_steps": 520},
    {"algorithm.adv_estimator": "another", "algorithm.gamma": 0.99, "algorithm.lam": 0.95},
    {f"{ENV}.num_holdout_trials": 49},
    {f"{ENV}.num_holdout_trials": 50, "trainer.val_only": True},
    {
        f"{REF}.embodied.video_encoder": "vjepa2",
        "algorithm.gamma": 0.9,
        f"{REF}.rollout.n": 1,
        "trainer.val_only": True,
    },
    {"data.train_batch_size": 1, f"{REF}.rollout.do_sample": False, "trainer.val_only": True},
    {"trainer.logger": []},
    {"trainer.save_freq": -1, "trainer.test_freq": -1},
    {f"{REF}.model.lora_rank": 32, f"{REF}.model.lora_alpha": 64},
    {f"{REF}.model.lora_rank": 8, f"{REF}.model.target_modules": ["q_proj", "attn.proj"]},
    {f"{REF}.model.path": "", "dry_run": True},
    {f"{REF}.model.path": "", f"{REF}.embodied.video_encoder": "vjepa2", "dry_run": True},
]


@pytest.mark.parametrize("values", POSSIBLE, ids=str)
def test_possible(config: Config, values: dict) -> None:
    for key, value in values.items():
        set_value(config, key, value)
    assert check_config(config) == []


def test_compiling_for_the_cpu_needs_a_compiler(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    config.actor_rollout_ref.model.use_torch_compile = True
    (line,) = check_config(config)
    assert line.startswith(f"{REF}.model.use_torch_compile=true: allowed: false without a C++ compiler")
    assert str(tmp_path / "c++") in line
    (tmp_path / "c++").touch(mode=0o755)
    assert check_config(config) == []
    (tmp_path / "c++").unlink()
    config.trainer.n_gpus_per_node = 1
    assert check_config(config) == []
    env = config.actor_rollout_ref.embodied.env
    env.world_model.use_torch_compile = True
    (line,) = check_config(config)
    assert line.startswith(f"{REF}.embodied.env.world_model.use_torch_compile=true: allowed: false without a C++")
    env.sim_backend = "gpu"
    assert check_config(config) == []


@pytest.mark.parametrize(
    "key",
    ["data.train_files", "trainer.default_local_dir", "trainer.tensorboard_dir", f"{ENV}.video_cfg.video_base_dir"],
)
def test_output_needs_a_folder(config: Config, tmp_path: Path, key: str) -> None:
    config.actor_rollout_ref.embodied.env.video_cfg.save_video = True
    (tmp_path / "file").touch()
    set_value(config, key, str(tmp_path / "file" / "deeper" / "name"))
    (line,) = check_config(config)
    assert line.startswith(f"{key}={tmp_path}/file/deeper/name: allowed: ")
    assert f"{tmp_path}/file is a file" in line
    config.dry_run = True
    assert check_config(config) == []


def test_resuming_from_a_folder_that_exists(config: Config, tmp_path: Path) -> None:
    config.trainer.resume_mode, config.trainer.resume_from_path = "resume_path", str(tmp_path)
    assert check_config(config) == []


def test_a_policy_path_must_be_the_folder_with_the_config(config: Config, tmp_path: Path) -> None:
    folder = policy_folder(tmp_path)
    config.actor_rollout_ref.model.path = str(folder / "config.json")
    (line,) = check_config(config)
    assert "rather than a file" in line
    (folder / "config.json").unlink()
    config.actor_rollout_ref.model.path = str(folder)
    (line,) = check_config(config)
    assert "no config.json" in line
    config.dry_run = True
    assert check_config(config) == []


def test_a_dry_run_refuses_given_paths_that_do_not_exist(config: Config) -> None:
    config.dry_run = True
    config.actor_rollout_ref.model.path = "/no/such"
    config.actor_rollout_ref.embodied.video_embedding_model_path = "/no/such.pt"
    assert len(check_config(config)) == 2


def test_adapters_need_peft_and_a_plan_for_them_does_not(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.actor_rollout_ref.model.lora_rank = 8
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (line,) = check_config(config)
    assert line.startswith(f"{REF}.model.lora_rank=8: allowed: 0 without the package peft")
    assert "pip install 'siirl[lora]'" in line
    config.dry_run = True
    assert check_config(config) == []


def test_all_combinations_are_reported_together(config: Config, tmp_path: Path) -> None:
    config.algorithm.gamma, config.trainer.save_freq, config.trainer.deterministic = 0.5, 0, True
    config.trainer.n_gpus_per_node = 1
    assert len(check_config(config)) == 3
    path = f"{REF}.model.path={policy_folder(tmp_path)}"
    with pytest.raises(ValueError, match=r"the config has 2 problems") as caught:
        load_config("quickstart", [path, "algorithm.gamma=0.5", "trainer.seed=-1"])
    assert "algorithm.gamma=0.5" in str(caught.value)
    assert "trainer.seed=-1" in str(caught.value)
