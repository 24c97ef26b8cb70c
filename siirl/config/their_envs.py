"""What of RLinf's environments is another setting here: functions for the table in `siirl.config.computed`."""

from typing import Any

from siirl.config.environments import VALIDATION, validates_in
from siirl.config.schema import Config
from siirl.config.theirs import SKIP, Theirs

EVAL_TYPES = ("env.eval.env_type", "env.eval.simulator_type")
EVAL_STEPS = ("env.eval.max_episode_steps", "env.eval.init_params.max_episode_steps")
FRAME = "env.train.world_model_cfg.image_size"
WORLD_MODEL_ENV = "opensora_wm"


def reward(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: `sparse` for LIBERO and a world model of it, else `env`."""
    return "sparse" if config.actor_rollout_ref.embodied.env.env_type in ("libero", WORLD_MODEL_ENV) else "env"


def image_size(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: 224 for ManiSkill."""
    return 224 if config.actor_rollout_ref.embodied.env.env_type == "maniskill" else SKIP


def imagined_size(theirs: Theirs, config: Config) -> Any:
    """The side of its squares."""
    size = theirs[FRAME]
    if not isinstance(size, list) or len(size) != 2 or size[0] != size[1]:
        raise ValueError("two equal numbers, since frames are squares", f"{FRAME}=[256,256]")
    return size[0]


def sim_backend(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: `gpu` for a world model, where machines have accelerators."""
    imagined = config.actor_rollout_ref.embodied.env.env_type == WORLD_MODEL_ENV
    return "gpu" if imagined and config.trainer.n_gpus_per_node else SKIP


def val_env_type(theirs: Theirs, config: Config) -> Any:
    """`env.eval.env_type`, where it is not that of `env.train`."""
    kind = next(theirs[name] for name in EVAL_TYPES if name in theirs)
    return SKIP if kind == config.actor_rollout_ref.embodied.env.env_type else kind


def val_max_steps(theirs: Theirs, config: Config) -> Any:
    """The same, where `env.eval.env_type` is not that of `env.train`; else it must be `env.train.max_episode_steps`."""
    steps = next(theirs[name] for name in EVAL_STEPS if name in theirs)
    longest = config.actor_rollout_ref.embodied.env.max_steps
    if validates_in(config) == VALIDATION:
        return steps
    if any(theirs.get(name, longest) != longest for name in EVAL_STEPS):
        allowed = f"{longest} (env.train.max_episode_steps): validation runs in the same environment"
        raise ValueError(allowed, "give both the same, or leave this one out")
    return SKIP
