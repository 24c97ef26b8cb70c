"""Estimators, value head and losses: which of their settings need each other, and which nothing would read."""

from collections.abc import Iterator
from pathlib import Path

from siirl.algorithms.base import ADVANTAGES, Estimator
from siirl.config.folders import is_policy_folder
from siirl.config.keys import KEYS, get_value, given, refuse
from siirl.config.problems import show
from siirl.config.schema import Config
from siirl.rewards.base import REWARDS

ESTIMATOR, CRITIC = "algorithm.adv_estimator", "critic.use_critic_model"
N, COEF = "actor_rollout_ref.rollout.n", "actor_rollout_ref.actor.kl_loss_coef"
REFERENCE = "actor_rollout_ref.ref.path"
GAE, GRPO = "gae", "grpo"
PPO = f"{ESTIMATOR}={GAE} {CRITIC}=true"
"""What to write for values: one of the two alone would be refused."""
FILTER = "algorithm.embodied_sampling.filter_accuracy"
OF_VALUES = (
    "algorithm.gamma",
    "algorithm.lam",
    "algorithm.reward_type",
    "algorithm.bootstrap_type",
    "algorithm.reward_scale",
    "algorithm.normalize_advantages",
)
"""What only estimators read that have values."""
OF_CRITIC = tuple(key for key in KEYS if key.startswith("critic.") and key != CRITIC)


def estimator_of(config: Config) -> Estimator | None:
    """The estimator, or None for an unknown name, which `siirl.client.preflight` reports."""
    try:
        return ADVANTAGES.get(config.algorithm.adv_estimator)
    except ValueError:
        return None


def is_final(reward: str) -> bool:
    """Whether a reward judges the whole episode; an unknown name does not, which `siirl.client.preflight` reports."""
    return reward in REWARDS.names() and REWARDS.get(reward).final


def group_too_small(config: Config) -> bool:
    """Whether an episode is to be compared with the others of its group, and there are none."""
    estimator = estimator_of(config)
    return estimator is not None and estimator.scores_groups and config.actor_rollout_ref.rollout.n == 1


def check_estimator(config: Config) -> Iterator[str]:
    """Without values there is no discount and no lambda: whole episodes are scored, by some estimators within their group."""
    name, estimator = given(config, ESTIMATOR), estimator_of(config)
    if estimator is None:
        return
    if not estimator.needs_values:
        for key in OF_VALUES:
            if get_value(config, key) != (default := KEYS[key].default):
                allowed = f"{show(default)} with {name}, which scores whole episodes"
                yield refuse(config, key, allowed, f"{key}={show(default)}, or {PPO}")
    elif config.algorithm.bootstrap_type == "always" and is_final(config.algorithm.reward):
        key, reward = "algorithm.bootstrap_type", given(config, "algorithm.reward")
        allowed = f"standard with {reward}, which judges the whole episode: nothing comes after it"
        yield refuse(config, key, allowed, f"{key}=standard, or algorithm.reward=sparse")
    std = "algorithm.norm_adv_by_std_in_grpo"
    if not get_value(config, std) and config.algorithm.adv_estimator != GRPO:
        yield refuse(config, std, f"true with {name}, which would ignore it", f"{std}=true, or {ESTIMATOR}={GRPO}")
    if group_too_small(config):
        allowed = f"at least 2 with {name}, whose baseline is the group: nothing is left of a group of one"
        yield refuse(config, N, allowed, f"{N}=8, or {PPO} {FILTER}=false")  # one episode's accuracy is 0 or 1


def check_critic(config: Config) -> Iterator[str]:
    """The value head belongs to estimators that need values, and its settings to the value head."""
    name, estimator = given(config, ESTIMATOR), estimator_of(config)
    if config.critic.use_critic_model:
        if estimator is not None and not estimator.needs_values:
            allowed = f"false with {name}, which has no use for values"
            yield refuse(config, CRITIC, allowed, f"{CRITIC}=false, or {ESTIMATOR}={GAE}")
        if config.trainer.max_staleness > 0:
            key = "trainer.max_staleness"
            yield refuse(
                config, key, f"0 with {given(config, CRITIC)}: values would be those of older weights", f"{key}=0"
            )
        return
    if estimator is not None and estimator.needs_values:
        allowed = f"true with {name}, which needs a value head to estimate values"
        without = "" if get_value(config, N) == 1 else f", or {ESTIMATOR}={GRPO}"  # whose baseline is the group
        yield refuse(config, CRITIC, allowed, f"{CRITIC}=true{without}")
        return
    for key in OF_CRITIC:
        if get_value(config, key) != (default := KEYS[key].default):
            allowed = f"{show(default)} with {given(config, CRITIC)}: there is no value head, and it would be ignored"
            yield refuse(config, key, allowed, f"{key}={show(default)}, or {CRITIC}=true")


def check_levels(config: Config) -> Iterator[str]:
    """An advantage of each action needs a probability ratio of each action, or of each token."""
    key, rewards = "algorithm.logprob_type", "algorithm.reward_type"
    estimator = estimator_of(config)
    if estimator is None or not estimator.needs_values or get_value(config, rewards) != "action_level":
        return
    if get_value(config, key) == "chunk_level" and config.actor_rollout_ref.embodied.action_chunks_len > 1:
        why = "each action has an advantage, and a chunk only one ratio"
        allowed = f"token_level or action_level with {given(config, rewards)}: {why}"
        yield refuse(config, key, allowed, f"{key}=action_level, or {rewards}=chunk_level")


def check_reference(config: Config) -> Iterator[str]:
    """The KL penalty needs a policy to refer to, which nothing else reads."""
    path = config.actor_rollout_ref.ref.path
    if get_value(config, COEF) > 0:
        allowed = "the folder of the policy that the KL penalty refers to"
        if path is None:
            fix = f"{REFERENCE}=<folder>, often that of actor_rollout_ref.model.path, or {COEF}=0"
            yield refuse(config, REFERENCE, f"{allowed} with {given(config, COEF)}", fix)
        elif not is_policy_folder(Path(path)):
            fix = f"give the folder that holds config.json, or {COEF}=0"
            yield refuse(config, REFERENCE, f"{allowed}; there is no config.json in it", fix)
    elif path is not None:
        allowed = f"null with {given(config, COEF)}: there is no KL penalty, and it would be ignored"
        yield refuse(config, REFERENCE, allowed, f"{REFERENCE}=null, or {COEF}=0.01")
