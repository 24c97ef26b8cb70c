"""Our keys that RLinf writes as several of its own, or in other units: what each is, computed from what was given there.

A function gets what was given under RLinf's names and the config as read so far, and returns our value; `SKIP` where nothing
follows; it raises ``ValueError(allowed, fix)`` where the numbers have no counterpart. Docstrings become the documentation.
"""

import math
from dataclasses import dataclass
from typing import Any

from siirl.config.acting import executed_actions
from siirl.config.aliases import ACTOR, CHOICES, EMBODIED, ENV, MODEL, ROLLOUT, SAMPLING, THEIR_MARK
from siirl.config.computed_acting import (
    EVAL_TEMPERATURE,
    INITIAL_LOGSTD,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    gaussian_of_theirs,
    greedy_or_sampled,
    initial_std,
    noise_lr,
    temperature,
    their_initial_std,
    their_noise_lr,
    top_k,
    validation_only,
)
from siirl.config.environments import VAL_ENV
from siirl.config.keys import KEYS, given
from siirl.config.placement import read_placement
from siirl.config.schema import Config
from siirl.config.their_envs import (
    EVAL_STEPS,
    EVAL_TYPES,
    FRAME,
    WORLD_MODEL_ENV,
    image_size,
    imagined_size,
    reward,
    sim_backend,
    val_env_type,
    val_max_steps,
)
from siirl.config.theirs import SKIP, Function, Theirs

ENVS, GROUPS, EPOCHS = "env.train.total_num_envs", "algorithm.num_group_envs", "env.train.rollout_epoch"
STEPS, CHUNK_STEPS, RESET = "env.train.max_steps_per_rollout_epoch", "algorithm.n_chunk_steps", "env.train.auto_reset"
TERMINATIONS = "env.train.ignore_terminations"
AGGREGATION = "algorithm.loss_agg_func"
BATCH = "actor.global_batch_size"
FACTORS = ("env.train.reward_coef", "algorithm.reward_coef")
BOUNDS = ("algorithm.rewards_lower_bound", "algorithm.rewards_upper_bound")
BACKENDS, WANDB = "runner.logger.logger_backends", "trainer.logger.wandb.enable"


@dataclass(frozen=True)
class Computed:
    """One of our keys and the ``names`` there that it follows from; ``read_with_gae``: nothing else reads them, there or here."""

    key: str
    names: tuple[str, ...]
    function: Function
    read_with_gae: bool = False


def whole(number: float, allowed: str, fix: str) -> int:
    """``number`` as an int; ValueError unless it is a whole one ≥ 1."""
    if number < 1 or number != int(number):
        raise ValueError(allowed, fix)
    return int(number)


def simulators(theirs: Theirs, config: Config) -> int | None:
    """Environments of training on the whole cluster, if they were given."""
    if theirs.get(ENVS) is not None:
        return theirs[ENVS]
    groups = theirs.get(GROUPS)
    return None if groups is None else groups * config.actor_rollout_ref.rollout.n


def num_envs(theirs: Theirs, config: Config) -> Any:
    """`env.train.total_num_envs` / slots of the rollout."""
    total = simulators(theirs, config)
    if total is None:
        return SKIP
    slots = max(1, len(read_placement(config)[0].get("rollout", ())))
    return whole(
        total / slots, f"a multiple of {slots}, the slots of the rollout", f"give such a number, or {ENV}.num_envs"
    )


def train_batch_size(theirs: Theirs, config: Config) -> Any:
    """`env.train.total_num_envs` × `env.train.rollout_epoch` / `algorithm.group_size`, and with `env.train.auto_reset` times
    `env.train.max_steps_per_rollout_epoch` / `env.train.max_episode_steps`: there steps are counted, here whole episodes are.
    `env.train.total_num_envs` alone is the number of simulators, and leaves the batch as it is."""
    if not {EPOCHS, STEPS, CHUNK_STEPS} & set(theirs):
        return SKIP
    total, n = simulators(theirs, config), config.actor_rollout_ref.rollout.n
    if total is None:
        raise ValueError(f"a number beside {ENVS}", "give both, or data.train_batch_size, the prompts of a step")
    episodes = total * theirs.get(EPOCHS, 1) * _episodes_per_epoch(theirs, config)
    return whole(
        episodes / n,
        f"{n} episodes of each prompt (algorithm.group_size), and {episodes} is no multiple",
        f"give {ENVS} a multiple of {n}",
    )


def _episodes_per_epoch(theirs: Theirs, config: Config) -> int:
    embodied, steps = config.actor_rollout_ref.embodied, theirs.get(STEPS)
    if steps is None and theirs.get(CHUNK_STEPS) is not None:
        steps = theirs[CHUNK_STEPS] * executed_actions(embodied)
    longest = embodied.env.max_steps
    if steps is None or (steps == longest):
        return 1
    if longest is None:
        raise ValueError("a number beside env.train.max_episode_steps", "give both")
    if not theirs.get(RESET, False) and steps > longest:
        return 1  # a simulator that is done idles until the epoch ends
    allowed = f"{longest} steps (env.train.max_episode_steps) or a multiple: episodes run to their end here"
    return whole(steps / longest, allowed, f"{STEPS}={longest}")


def ppo_mini_batch_size(theirs: Theirs, config: Config) -> Any:
    """`actor.global_batch_size`, which counts chunks, / (`algorithm.group_size` × chunks of an episode of
    `env.train.max_episode_steps`). Chunks there are shuffled one by one, episodes here as a whole."""
    embodied, n = config.actor_rollout_ref.embodied, config.actor_rollout_ref.rollout.n
    if embodied.env.max_steps is None:
        raise ValueError("a number beside env.train.max_episode_steps", f"give both, or {ACTOR}.ppo_mini_batch_size")
    chunks = n * math.ceil(embodied.env.max_steps / executed_actions(embodied))
    allowed = f"a multiple of the {chunks} chunks of a prompt ({n} episodes of at most {chunks // n})"
    return whole(theirs[BATCH] / chunks, allowed, f"{BATCH}={max(1, round(theirs[BATCH] / chunks)) * chunks}")


def bound(name: str) -> Function:
    """A bound on the mean reward of a group, as one on its accuracy."""

    def accuracy(theirs: Theirs, config: Config) -> Any:
        """The bound / `env.train.reward_coef`, the reward of a success. For LIBERO, which rewards nothing else, and for a world
        model of it."""
        if theirs.get(name) is None:
            return SKIP
        env = config.actor_rollout_ref.embodied.env
        if env.env_type not in ("libero", WORLD_MODEL_ENV):
            fix = f"remove it, or give {SAMPLING}.accuracy_lower_bound and accuracy_upper_bound"
            raise ValueError(f"LIBERO's success reward; with {given(config, f'{ENV}.env_type')} it is no accuracy", fix)
        return theirs[name] / next((theirs[factor] for factor in FACTORS if theirs.get(factor)), 1)

    return accuracy


def total_training_steps(theirs: Theirs, config: Config) -> Any:
    """The smaller of `runner.max_epochs` and `runner.max_steps` (−1: no bound); an epoch there is a step here."""
    bounds = [theirs.get("runner.max_epochs"), theirs.get("runner.max_steps")]
    return min((steps for steps in bounds if steps is not None and steps >= 0), default=SKIP)


def resume_mode(theirs: Theirs, config: Config) -> Any:
    """null: `disable`; a folder: `resume_path`. Only checkpoints of siirl can be resumed."""
    return "disable" if theirs["runner.resume_dir"] is None else "resume_path"


def resume_from_path(theirs: Theirs, config: Config) -> Any:
    """The folder, or null."""
    return theirs["runner.resume_dir"]


def loss_agg_mode(theirs: Theirs, config: Config) -> Any:
    """With `env.train.auto_reset` or `env.train.ignore_terminations` `token-mean`, without `seq-mean-token-mean`: what RLinf
    computes for robots, whatever `algorithm.loss_agg_func` says. Where neither is given, `algorithm.loss_agg_func`."""
    if RESET in theirs:
        return "token-mean" if theirs[RESET] or theirs.get(TERMINATIONS) else "seq-mean-token-mean"
    return theirs.get(AGGREGATION, SKIP)


def logger(theirs: Theirs, config: Config) -> Any:
    """`runner.logger.logger_backends`, and `console`, where RLinf always writes; `trainer.logger.wandb.enable` adds `wandb`."""
    backends, wandb = theirs.get(BACKENDS), theirs.get(WANDB, False)
    allowed = [name for name in KEYS["trainer.logger"].choices or () if name != "console"]
    if backends is not None and not set(backends) <= set(allowed):
        raise ValueError(f"a list of these: {', '.join(allowed)}", f"{BACKENDS}=[tensorboard]")
    if backends is None and not wandb:
        return SKIP
    named = config.trainer.logger if backends is None else ["console", *backends]
    return [*named, "wandb"] if wandb and "wandb" not in named else named


def use_critic_model(theirs: Theirs, config: Config) -> Any:
    """true with gae, false otherwise."""
    return config.algorithm.adv_estimator == "gae"


def loss_coef(theirs: Theirs, config: Config) -> Any:
    """1 with `actor_critic`, which adds the two losses."""
    adds = CHOICES["algorithm.loss_type"][1].get(theirs["algorithm.loss_type"])
    return 1.0 if adds and config.critic.use_critic_model else SKIP


def position(theirs: Theirs, config: Config) -> Any:
    """`a0`: `first_action`."""
    if theirs["actor.model.vh_mode"] != "a0":
        raise ValueError("a0, where the first action is predicted", "actor.model.vh_mode=a0, or give critic.position")
    return "first_action"


def betas(theirs: Theirs, config: Config) -> Any:
    """[`actor.optim.adam_beta1`, `actor.optim.adam_beta2`]."""
    now = config.actor_rollout_ref.actor.optim.betas
    return [theirs.get(f"actor.optim.adam_beta{i + 1}", beta) for i, beta in enumerate(now)]


def lora_rank(theirs: Theirs, config: Config) -> Any:
    """`actor.model.lora_rank`, and 0 with `actor.model.is_lora=false`."""
    return theirs.get("actor.model.lora_rank", SKIP) if theirs.get("actor.model.is_lora", True) else 0


def lora_alpha(theirs: Theirs, config: Config) -> Any:
    """As `actor.model.lora_rank`: adapters there count once."""
    return lora_rank(theirs, config) or SKIP


def entropy_level(theirs: Theirs, config: Config) -> Any:
    """The same as `algorithm.logprob_type`, where there is an entropy bonus; nothing else reads it."""
    return theirs["algorithm.entropy_type"] if config.actor_rollout_ref.actor.entropy_coeff else SKIP


def views(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: 2 with starvla, which sees the cameras that there are."""
    return 2 if gaussian_of_theirs(theirs) else SKIP


def num_steps_wait(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: 15 for LIBERO."""
    return 15 if config.actor_rollout_ref.embodied.env.env_type == "libero" else SKIP


def reward_scale(theirs: Theirs, config: Config) -> Any:
    """The same with gae; with grpo the factor cancels, in the filter's bounds too."""
    if config.algorithm.adv_estimator != "gae":
        return SKIP
    return next((theirs[factor] for factor in FACTORS if theirs.get(factor) is not None), SKIP)


def same(name: str) -> Function:
    """A setting that has one name here and another there."""

    def value(theirs: Theirs, config: Config) -> Any:
        """The same. Read with gae only."""
        return theirs[name]

    return value


def reward_type(theirs: Theirs, config: Config) -> Any:
    """The same; earlier `step_level`: `action_level`. Read with gae only."""
    given = theirs["algorithm.reward_type"]
    return "action_level" if given == "step_level" else given


def with_gae(key: str, name: str) -> Computed:
    """A setting of PPO, which files of other algorithms carry along."""
    return Computed(key, (name,), same(name), read_with_gae=True)


COMPUTED = (
    Computed("critic.use_critic_model", ("algorithm.adv_type",), use_critic_model),
    Computed("critic.loss_coef", ("algorithm.loss_type",), loss_coef),
    Computed("algorithm.reward", (THEIR_MARK,), reward),
    Computed(f"{ENV}.image_size", (THEIR_MARK,), image_size),
    Computed(f"{ENV}.num_steps_wait", (THEIR_MARK,), num_steps_wait),
    Computed(f"{ENV}.image_size", (FRAME,), imagined_size),
    Computed(f"{ENV}.sim_backend", (THEIR_MARK,), sim_backend),
    Computed(f"{VAL_ENV}.env_type", EVAL_TYPES, val_env_type),
    Computed(f"{VAL_ENV}.max_steps", EVAL_STEPS, val_max_steps),
    Computed(f"{EMBODIED}.num_images_in_input", (THEIR_MARK,), views),
    Computed("algorithm.logprob_type", ("algorithm.entropy_type",), entropy_level),
    Computed(f"{ENV}.num_envs", (ENVS, GROUPS), num_envs),
    Computed("data.train_batch_size", (ENVS, GROUPS, EPOCHS, STEPS, CHUNK_STEPS, RESET), train_batch_size),
    Computed(f"{ACTOR}.ppo_mini_batch_size", (BATCH,), ppo_mini_batch_size),
    Computed(f"{ACTOR}.loss_agg_mode", (RESET, TERMINATIONS, AGGREGATION), loss_agg_mode),
    Computed(f"{ACTOR}.optim.betas", ("actor.optim.adam_beta1", "actor.optim.adam_beta2"), betas),
    Computed(f"{SAMPLING}.accuracy_lower_bound", (BOUNDS[0], *FACTORS), bound(BOUNDS[0])),
    Computed(f"{SAMPLING}.accuracy_upper_bound", (BOUNDS[1], *FACTORS), bound(BOUNDS[1])),
    Computed(f"{MODEL}.lora_rank", ("actor.model.is_lora", "actor.model.lora_rank"), lora_rank),
    Computed(f"{MODEL}.lora_alpha", ("actor.model.is_lora", "actor.model.lora_rank"), lora_alpha),
    Computed(f"{MODEL}.action_noise.initial_std", (THEIR_MARK,), their_initial_std),
    Computed(f"{MODEL}.action_noise.lr", (THEIR_MARK,), their_noise_lr),
    Computed(f"{MODEL}.action_noise.initial_std", (INITIAL_LOGSTD,), initial_std),
    Computed(f"{MODEL}.action_noise.lr", ("actor.model.trainable_logstd",), noise_lr),
    Computed(f"{ROLLOUT}.temperature", (TEMPERATURE,), temperature),
    Computed(f"{ROLLOUT}.top_k", (TOP_K,), top_k),
    Computed(f"{ROLLOUT}.top_p", (TOP_P,), same(TOP_P)),
    Computed(f"{ROLLOUT}.val_kwargs.do_sample", (EVAL_TEMPERATURE,), greedy_or_sampled),
    Computed(f"{ROLLOUT}.val_kwargs.temperature", (EVAL_TEMPERATURE,), validation_only(EVAL_TEMPERATURE)),
    Computed(f"{ROLLOUT}.val_kwargs.top_k", (TOP_K,), validation_only(TOP_K)),
    Computed(f"{ROLLOUT}.val_kwargs.top_p", (TOP_P,), validation_only(TOP_P)),
    Computed("trainer.total_training_steps", ("runner.max_epochs", "runner.max_steps"), total_training_steps),
    Computed("trainer.logger", (BACKENDS, WANDB), logger),
    Computed("trainer.resume_mode", ("runner.resume_dir",), resume_mode),
    Computed("trainer.resume_from_path", ("runner.resume_dir",), resume_from_path),
    with_gae("algorithm.gamma", "algorithm.gamma"),
    with_gae("algorithm.lam", "algorithm.gae_lambda"),
    with_gae("algorithm.normalize_advantages", "algorithm.normalize_advantages"),
    with_gae("algorithm.bootstrap_type", "algorithm.bootstrap_type"),
    Computed("algorithm.reward_scale", FACTORS, reward_scale),
    Computed("algorithm.reward_type", ("algorithm.reward_type",), reward_type, read_with_gae=True),
    with_gae("algorithm.reward_type", "actor.model.value_type"),
    with_gae("critic.lr", "actor.optim.value_lr"),
    with_gae("critic.clip", "algorithm.value_clip"),
    with_gae("critic.huber_delta", "algorithm.huber_delta"),
    with_gae("critic.warmup_steps", "actor.optim.critic_warmup_steps"),
    Computed("critic.position", ("actor.model.vh_mode",), position, read_with_gae=True),
)
"""In this order: later ones read what earlier ones set."""

NAMES = frozenset(name for row in COMPUTED for name in row.names)
