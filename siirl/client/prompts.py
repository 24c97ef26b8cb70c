"""The prompts of a config: those that train, and those that validate, perhaps of another environment's tasks."""

from dataclasses import replace

from siirl.config.environments import TRAINING, seen_by, validates_in
from siirl.config.schema import Config
from siirl.data.manifest import Prompt, build_prompts
from siirl.envs.base import ENVS

Prompts = tuple[list[Prompt], list[Prompt]]
"""Training and validation."""


def find_prompts(config: Config) -> Prompts:
    """The training and the validation prompts; none to train with ``trainer.val_only`` where another environment validates. With
    ``real_fraction`` the training prompts of that one come after the others.

    Raises:
        ValueError: as `EnvFactory.tasks` or `build_prompts`.
    """
    name = validates_in(config)
    if name == TRAINING:
        return _prompts(config)
    real, validate = ([replace(prompt, env=name) for prompt in part] for part in _prompts(seen_by(config, name)))
    if config.trainer.val_only:
        return [], validate
    trains = config.actor_rollout_ref.embodied.real_fraction > 0
    return _prompts(config)[0] + (real if trains else []), validate


def _prompts(config: Config) -> Prompts:
    """Of the tasks of ``env``."""
    env = config.actor_rollout_ref.embodied.env
    factory = ENVS.get(env.env_type)
    return build_prompts(config, factory.tasks(env), env.max_steps or factory.default_max_steps(env))
