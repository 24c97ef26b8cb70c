"""RLinf's names of keys: read wherever the key is, translated where the value has another form, never silently in conflict."""

import math
from pathlib import Path
from typing import Any

import pytest

from siirl.config.aliases import ALIASES, CHOICES, EARLIER, ONLY, SAME_NAME, THEIR_DEFAULTS, UNREAD
from siirl.config.computed import COMPUTED, NAMES
from siirl.config.keys import KEYS, convert, get_value
from siirl.config.load import Reading, load_config, read_config
from tests.config.folders import path_override

REF = "actor_rollout_ref"
ENV = f"{REF}.embodied.env"
PPO = ["algorithm.adv_estimator=gae", "critic.use_critic_model=true"]


def read(folder: Path, text: str, *overrides: str) -> Reading:
    (folder / "mine.yaml").write_text(text)
    return read_config("mine", overrides, folder)


def value(key: str, *overrides: str) -> Any:
    reading = read_config("quickstart", overrides)
    assert not reading.problems
    return get_value(reading.config, key)


def refusal(*overrides: str) -> str:
    (line,) = read_config("quickstart", overrides).problems
    return line


def test_every_other_name_is_one_and_means_a_key() -> None:
    ours = {*ALIASES.values(), *(key for key, _ in CHOICES.values()), *(row.key for row in COMPUTED), *THEIR_DEFAULTS}
    assert ours <= set(KEYS)
    assert not {*ALIASES, *CHOICES, *UNREAD, *EARLIER} & set(KEYS)
    assert (NAMES | set(ONLY)) & set(KEYS) == set(SAME_NAME)
    assert set(EARLIER.values()) <= {*ALIASES, *CHOICES, *NAMES, *ONLY}


def test_a_name_is_in_one_part_of_the_table() -> None:
    parts = (set(ALIASES), set(CHOICES), set(UNREAD), set(EARLIER))
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert not set(ALIASES) & {*NAMES, *ONLY}
    assert not set(UNREAD) & {*NAMES, *ONLY}


def test_every_value_of_theirs_is_one_of_ours() -> None:
    for key, choices in CHOICES.values():
        for ours in choices.values():
            assert convert(KEYS[key], ours) == ours


SAMPLES = {bool: True, int: 17, float: 0.5, str: "any"}


@pytest.mark.parametrize(("alias", "name"), ALIASES.items(), ids=ALIASES)
def test_other_names_are_read_from_files_and_from_the_command_line(alias: str, name: str, tmp_path: Path) -> None:
    key = KEYS[name]
    given = key.choices[-1] if key.choices else SAMPLES[key.item]
    if key.maximum is None and key.above is not None and key.above >= 1:
        given = 3.0
    expected = convert(key, given)
    assert get_value(read_config("quickstart", [f"{alias}={given}"]).config, name) == expected
    text = str(given) + "}" * alias.count(".")
    for part in reversed(alias.split(".")):
        text = f"{part}: {text}" if part == alias.rpartition(".")[2] else f"{part}: {{{text}"
    assert get_value(read(tmp_path, text).config, name) == expected


def test_two_names_may_agree_and_are_both_told_when_they_do_not(tmp_path: Path) -> None:
    both = "cluster: {num_nodes: 2}\ntrainer: {nnodes: %d}"
    assert read(tmp_path, both % 2).problems == []
    (line,) = read(tmp_path, both % 3).problems
    assert line.startswith("trainer.nnodes=3: allowed: 2, since cluster.num_nodes=2 is the same setting")
    assert "keep one of the two, trainer.nnodes or cluster.num_nodes" in line
    line = refusal("cluster.num_nodes=2", "trainer.nnodes=1")
    assert line.startswith("trainer.nnodes=1: allowed: 2")
    assert value("trainer.nnodes", "trainer.nnodes=1", "cluster.num_nodes=2", "trainer.nnodes=2") == 2, "the last one"


def test_a_computed_value_must_agree_with_the_key(tmp_path: Path) -> None:
    both = "runner: {max_epochs: 20, max_steps: 9}\ntrainer: {total_training_steps: %d}"
    assert read(tmp_path, both % 9).problems == []
    (line,) = read(tmp_path, both % 10).problems
    assert line.startswith(
        "trainer.total_training_steps=10: allowed: 9, since runner.max_epochs=20, runner.max_steps=9"
    )
    assert "adv_type=gae" in refusal("algorithm.adv_type=gae", "actor.model.add_value_head=false")


def test_the_command_line_wins_over_the_files_under_either_name(tmp_path: Path) -> None:
    for text, override in (
        ("trainer: {nnodes: 3}", "cluster.num_nodes=4"),
        ("cluster: {num_nodes: 3}", "trainer.nnodes=4"),
        ("cluster: {num_nodes: 3}", "cluster.num_nodes=4"),
    ):
        reading = read(tmp_path, text, override)
        assert (reading.problems, reading.config.trainer.nnodes) == ([], 4)
    for text, override in (
        ("trainer: {total_training_steps: 3}", "runner.max_steps=4"),
        ("runner: {max_steps: 3}", "trainer.total_training_steps=4"),
        ("runner: {max_steps: 3, max_epochs: 9}", "runner.max_steps=4"),
    ):
        reading = read(tmp_path, text, override)
        assert (reading.problems, reading.config.trainer.total_training_steps) == ([], 4)


def test_a_value_may_refer_to_a_setting_by_either_name(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "cluster: {num_nodes: 3}\ntrainer: {seed: '${cluster.num_nodes}'}\ndata: {val_batch_size: '${trainer.nnodes}'}",
    )
    assert (reading.config.trainer.seed, reading.config.data.val_batch_size) == (3, 3)


def test_a_wrong_value_is_told_under_the_name_it_was_given(tmp_path: Path) -> None:
    assert refusal("cluster.num_nodes=0").startswith("cluster.num_nodes=0: allowed: a whole number ≥ 1")
    assert refusal("runner.max_steps=0").startswith("runner.max_steps=0: allowed: a whole number ≥ 1")


VALUES = [
    # our key, its value, what was given
    ("algorithm.adv_estimator", "gae", ["algorithm.adv_type=embodied_gae"]),
    ("algorithm.adv_estimator", "reinforce_plus_plus", ["algorithm.adv_type=reinpp"]),
    ("critic.use_critic_model", True, ["algorithm.adv_type=gae"]),
    ("critic.use_critic_model", False, [*PPO[1:], "algorithm.adv_type=grpo", "critic.use_critic_model=false"]),
    ("critic.loss_coef", 1.0, ["algorithm.adv_type=gae", "algorithm.loss_type=actor_critic"]),
    ("critic.loss_coef", 0.5, ["algorithm.loss_type=actor"]),
    ("critic.lr", 3e-3, [*PPO, "actor.optim.value_lr=3e-3"]),
    ("critic.clip", 0.3, [*PPO, "algorithm.value_clip=0.3"]),
    ("critic.position", "first_action", [*PPO, "actor.model.vh_mode=a0"]),
    ("algorithm.lam", 0.9, [*PPO, "algorithm.gae_lambda=0.9"]),
    ("algorithm.bootstrap_type", "always", [*PPO, "algorithm.bootstrap_type=always"]),
    ("algorithm.reward_scale", 5.0, [*PPO, "env.train.reward_coef=5"]),
    ("algorithm.reward_scale", 5.0, [*PPO, "algorithm.reward_coef=5"]),
    ("algorithm.reward_scale", 1.0, ["env.train.reward_coef=5"]),
    (f"{REF}.actor.kl_loss_type", "k1", ["algorithm.kl_penalty=kl"]),
    (f"{REF}.actor.optim.betas", [0.8, 0.999], ["actor.optim.adam_beta1=0.8"]),
    (f"{REF}.actor.optim.betas", [0.8, 0.9], ["actor.optim.adam_beta2=0.9", "actor.optim.adam_beta1=0.8"]),
    (f"{REF}.actor.loss_agg_mode", "token-mean", ["algorithm.loss_agg_func=token-mean"]),
    (f"{REF}.actor.loss_agg_mode", "token-mean", ["env.train.auto_reset=true"]),
    (f"{REF}.actor.loss_agg_mode", "seq-mean-token-mean", ["env.train.auto_reset=false"]),
    (f"{REF}.rollout.do_sample", True, ["algorithm.sampling_params.use_greedy=false"]),
    (f"{REF}.rollout.top_k", -1, ["rollout.sampling_params.top_k=0"]),
    (f"{REF}.rollout.val_kwargs.top_k", 50, ["rollout.sampling_params.top_k=50"]),
    (f"{REF}.rollout.val_kwargs.temperature", 0.6, ["rollout.sampling_params.temperature_eval=0.6"]),
    (f"{REF}.rollout.val_kwargs.do_sample", False, ["rollout.sampling_params.temperature_eval=-1"]),
    (f"{REF}.rollout.temperature", 0.7, ["rollout.sampling_params.temperature_train=0.7", "actor.model.model_type=starvla"]),
    (f"{REF}.model.action_noise.initial_std", pytest.approx(math.exp(-2)), ["actor.model.initial_logstd=-2"]),
    (f"{REF}.model.action_noise.lr", 0.0, ["actor.model.trainable_logstd=false"]),
    (f"{REF}.model.action_noise.lr", 3e-4, ["actor.model.trainable_logstd=true", "actor.optim.lr=3e-4"]),
    (f"{REF}.embodied.num_executed_actions", 4, ["actor.model.num_executed_action_chunks=4"]),
    (f"{REF}.embodied.num_executed_actions", 4, ["env.train.action_steps_per_chunk=4"]),
    (f"{REF}.model.lora_rank", 8, ["actor.model.lora_rank=8"]),
    (f"{REF}.model.lora_alpha", 8, ["actor.model.lora_rank=8", "actor.model.is_lora=true"]),
    (f"{REF}.model.lora_rank", 0, ["actor.model.lora_rank=8", "actor.model.is_lora=false"]),
    (f"{REF}.embodied.embodied_type", "openvla-oft", ["actor.model.model_type=openvla_oft"]),
    (f"{ENV}.num_envs", 12, ["env.train.total_num_envs=12"]),
    (f"{ENV}.num_envs", 3, ["env.train.total_num_envs=12", "cluster.num_gpus_per_node=4"]),
    ("data.train_batch_size", 4, ["env.train.total_num_envs=12"]),
    ("data.train_batch_size", 3, ["env.train.total_num_envs=12", "env.train.rollout_epoch=2"]),
    (f"{REF}.actor.ppo_mini_batch_size", 3, ["actor.global_batch_size=480"]),
    (f"{REF}.actor.ppo_mini_batch_size", 3, ["actor.global_batch_size=960", "actor.model.num_executed_action_chunks=4"]),
    ("trainer.total_training_steps", 6, ["runner.max_steps=-1"]),
    ("trainer.resume_mode", "disable", ["runner.resume_dir=null"]),
    ("trainer.resume_from_path", "x", ["runner.resume_dir=x"]),
    ("trainer.logger", ["console"], ["runner.logger.logger_backends=[]"]),
    ("trainer.logger", ["console", "wandb", "swanlab"], ["runner.logger.logger_backends=[wandb,swanlab]"]),
    ("trainer.logger", ["console", "tensorboard", "wandb"], ["trainer.logger.wandb.enable=true"]),
    ("trainer.logger", ["console", "tensorboard"], ["trainer.logger.wandb.enable=false"]),
    ("trainer.logger", ["console", "wandb"], ["trainer.logger.wandb.enable=true", "runner.logger.logger_backends=[wandb]"]),
    ("algorithm.embodied_sampling.accuracy_lower_bound", 0.1, ["algorithm.rewards_lower_bound=0.1"]),
    ("algorithm.embodied_sampling.accuracy_upper_bound", 0.9, ["algorithm.rewards_upper_bound=4.5", "algorithm.reward_coef=5"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "expected", "given"), VALUES, ids=str)
def test_translated(key: str, expected: Any, given: list[str]) -> None:
    assert value(key, *given) == expected


REFUSED = [
    ("algorithm.adv_type=opd", "gae, embodied_gae, ppo, grpo", "algorithm.adv_estimator"),
    ("runner.logger.logger_backends=[mlflow]", "tensorboard, wandb, swanlab, trackio", "logger_backends=[tensorboard]"),
    ("reward.use_reward_model=true", "false: rewards are algorithm.reward's", "use_reward_model=false"),
    (
        "actor.model.starvla.clip_log_ratio_min=-0.2",
        "null: actor_rollout_ref.actor.clip_ratio_low",
        "clip_log_ratio_min=null",
    ),
    ("actor.model.initial_logstd=null", "a number", "actor.model.initial_logstd=-2"),
    ("actor.model.initial_logstd=1000", "a logarithm between -20 and 20", "actor.model.initial_logstd=-2"),
    ("env.train.rollout_epoch=2", "a number beside env.train.total_num_envs", "give both"),
    ("actor.global_batch_size=100", "a multiple of the 160 chunks of a prompt", "actor.global_batch_size=160"),
]


def test_a_temperature_that_is_none_is_refused_for_all_that_follows_from_it() -> None:
    problems = read_config("quickstart", ["rollout.sampling_params.temperature_eval=null"]).problems
    assert any("temperature_eval=null: allowed: a number" in line for line in problems)


@pytest.mark.parametrize(("given", "allowed", "fix"), REFUSED, ids=[given for given, *_ in REFUSED])
def test_what_siirl_cannot_do_is_refused_with_a_fix(given: str, allowed: str, fix: str) -> None:
    line = refusal(given)
    name, _, rest = line.partition(": allowed: ")
    assert name.partition("=")[0] == given.partition("=")[0]
    assert allowed in rest.partition(" Fix: ")[0]
    assert fix in rest.partition(" Fix: ")[2]


def test_numbers_that_do_not_divide_are_refused() -> None:
    line = refusal("env.train.total_num_envs=10", "trainer.n_gpus_per_node=4")
    assert "a multiple of 4, the slots of the rollout" in line
    line = refusal("env.train.total_num_envs=10", "env.train.rollout_epoch=1")
    assert "8 episodes of each prompt (algorithm.group_size), and 10 is no multiple" in line
    given = ["env.train.total_num_envs=8", "env.train.max_steps_per_rollout_epoch=200", "env.train.auto_reset=true"]
    assert "160 steps (env.train.max_episode_steps) or a multiple" in refusal(*given)


def test_what_means_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        load_config("quickstart", [path_override(tmp_path), "env.group_name=EnvGroup", "actor.optim.value_lr=1"])
    (record,) = caplog.records
    assert "*.group_name: names of process groups" in record.message
    assert "actor.optim.value_lr: read with gae only, and this is grpo" in record.message


def test_names_of_the_wandb_tracker_are_read_from_yaml(tmp_path: Path) -> None:
    reading = read(tmp_path, "trainer: {logger: {wandb: {enable: false, project_name: p, experiment_name: e}}}")
    assert reading.problems == []
    assert (reading.config.trainer.project_name, reading.config.trainer.experiment_name) == ("p", "e")
    assert reading.config.trainer.logger == ["console", "tensorboard"]
