"""Impossible combinations of estimator, value head and losses; their neighbours pass."""

from pathlib import Path

import pytest
import yaml

from siirl.algorithms.base import ADVANTAGES
from siirl.config.algorithms import OF_CRITIC
from siirl.config.checks import check_config
from siirl.config.keys import set_value
from siirl.config.schema import Config
from tests.config.folders import policy_folder

ESTIMATORS = {name: ADVANTAGES.get(name) for name in ADVANTAGES.names()}
EPISODE_ESTIMATORS = [name for name, estimator in ESTIMATORS.items() if not estimator.needs_values]
GROUP_BASELINE = [name for name, estimator in ESTIMATORS.items() if estimator.scores_groups]
N, FILTER = "actor_rollout_ref.rollout.n", "algorithm.embodied_sampling.filter_accuracy"
LOWER, UPPER = "algorithm.embodied_sampling.accuracy_lower_bound", "algorithm.embodied_sampling.accuracy_upper_bound"
ESTIMATOR, CRITIC, LEVEL = "algorithm.adv_estimator", "critic.use_critic_model", "algorithm.logprob_type"
COEF, REFERENCE = "actor_rollout_ref.actor.kl_loss_coef", "actor_rollout_ref.ref.path"
REWARDS = "algorithm.reward_type"
STD = "algorithm.norm_adv_by_std_in_grpo"
PPO = {ESTIMATOR: "gae", CRITIC: True}
OTHERWISE = {
    "critic.position": "last_prompt",
    "critic.lr": 2e-3,
    "critic.loss_coef": 1.0,
    "critic.clip": None,
    "critic.huber_delta": 1.0,
    "critic.warmup_steps": 3,
}


def test_the_estimators_that_are_told_apart() -> None:
    assert {"grpo", "dr_grpo", "rloo", "reinforce_plus_plus"} <= set(EPISODE_ESTIMATORS)
    assert "gae" not in EPISODE_ESTIMATORS
    assert {"grpo", "dr_grpo", "rloo"} <= set(GROUP_BASELINE)


def problems(tmp_path: Path, values: dict) -> list[str]:
    config = Config()
    config.actor_rollout_ref.model.path = str(policy_folder(tmp_path))
    for key, value in values.items():
        set_value(config, key, value)
    return check_config(config)


IMPOSSIBLE = [
    # the values given, what is refused, a part of what is allowed, a part of the fix
    ({ESTIMATOR: "gae"}, f"{CRITIC}=false", "needs a value head", f"{CRITIC}=true"),
    *(({ESTIMATOR: name, CRITIC: True}, f"{CRITIC}=true", "no use for values", "=gae") for name in EPISODE_ESTIMATORS),
    *(({ESTIMATOR: name, N: 1}, f"{N}=1", "at least 2", f"{N}=8") for name in GROUP_BASELINE),
    ({**PPO, N: 1}, f"{FILTER}=true", "accuracy of one episode is 0 or 1", f"{FILTER}=false"),
    ({ESTIMATOR: "reinforce_plus_plus", N: 1}, f"{FILTER}=true", "0 or 1", f"{FILTER}=false"),
    *(({ESTIMATOR: name, "algorithm.gamma": 0.9}, "algorithm.gamma=0.9", "1.0", "=gae") for name in EPISODE_ESTIMATORS),
    ({"algorithm.lam": 0.9}, "algorithm.lam=0.9", f"1.0 with {ESTIMATOR}=grpo", "algorithm.lam=1.0"),
    ({REWARDS: "action_level"}, "algorithm.reward_type=action_level", "chunk_level", f"{ESTIMATOR}=gae"),
    ({"algorithm.normalize_advantages": False}, "algorithm.normalize_advantages=false", "true", f"{ESTIMATOR}=gae"),
    ({ESTIMATOR: "rloo", STD: False}, f"{STD}=false", "would ignore it", f"{ESTIMATOR}=grpo"),
    ({**PPO, STD: False}, f"{STD}=false", "would ignore it", f"{STD}=true"),
    ({**PPO, REWARDS: "action_level", LEVEL: "chunk_level"}, f"{LEVEL}=chunk_level", "only one ratio", "action_level"),
    ({COEF: 0.1}, f"{REFERENCE}=null", f"with {COEF}=0.1", f"{COEF}=0"),
    ({COEF: 0.1, REFERENCE: "/no/such"}, f"{REFERENCE}=/no/such", "no config.json", f"{COEF}=0"),
    ({REFERENCE: "."}, f"{REFERENCE}=.", "would be ignored", f"{REFERENCE}=null"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "refused", "allowed", "fix"), IMPOSSIBLE, ids=[f"{v}" for v, *_ in IMPOSSIBLE])
def test_impossible(tmp_path: Path, values: dict, refused: str, allowed: str, fix: str) -> None:
    (line,) = problems(tmp_path, values)
    assert line.startswith(f"{refused}: allowed: ")
    assert allowed in line.partition(" Fix: ")[0]
    assert fix in line.partition(" Fix: ")[2]


@pytest.mark.parametrize(
    "values",
    [*({ESTIMATOR: name, N: 1} for name in GROUP_BASELINE), {**PPO, CRITIC: False, N: 1, FILTER: False}],
    ids=str,
)
def test_a_group_of_one_is_refused_with_what_is_not_refused_then(tmp_path: Path, values: dict) -> None:
    (line,) = problems(tmp_path, values)
    for fix in line.partition(" Fix: ")[2].removesuffix(".").split(", or "):
        given = dict(setting.split("=") for setting in fix.split())
        assert problems(tmp_path, values | {key: yaml.safe_load(value) for key, value in given.items()}) == []


def test_settings_of_a_value_head_that_is_not_there_are_refused(tmp_path: Path) -> None:
    assert set(OTHERWISE) == set(OF_CRITIC)
    lines = problems(tmp_path, OTHERWISE)
    assert sorted(line.partition("=")[0] for line in lines) == sorted(OTHERWISE)
    assert all("there is no value head, and it would be ignored" in line for line in lines)
    assert len(problems(tmp_path, {ESTIMATOR: "gae", **OTHERWISE})) == 1, "the missing head alone is told"


POSSIBLE = [
    PPO,
    {**PPO, **OTHERWISE},
    {**PPO, N: 1, FILTER: False},
    {**PPO, N: 1, LOWER: 0.0, UPPER: 1.0},
    {**PPO, "algorithm.gamma": 0.99, "algorithm.lam": 0.95, "algorithm.normalize_advantages": False},
    {**PPO, REWARDS: "action_level", LEVEL: "action_level"},
    {**PPO, REWARDS: "action_level", LEVEL: "token_level"},
    {**PPO, REWARDS: "action_level", LEVEL: "chunk_level", "actor_rollout_ref.embodied.action_chunks_len": 1},
    {**PPO, LEVEL: "chunk_level"},
    {LEVEL: "chunk_level"},
    {ESTIMATOR: "reinforce_plus_plus", N: 1, FILTER: False},
    {ESTIMATOR: "another", CRITIC: True, "algorithm.gamma": 0.9, STD: False},
    {STD: False},
    {ESTIMATOR: "gae", N: 1, COEF: 0.1, "trainer.val_only": True},
]  # fmt: skip


@pytest.mark.parametrize("values", POSSIBLE, ids=str)
def test_possible(tmp_path: Path, values: dict) -> None:
    assert problems(tmp_path, values) == []


def test_a_reference_is_a_policy_folder(tmp_path: Path) -> None:
    assert problems(tmp_path, {COEF: 0.1, REFERENCE: str(policy_folder(tmp_path))}) == []
