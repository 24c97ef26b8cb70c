"""The prompts of a config: those that train, of one environment's tasks, and those that validate, perhaps of another's."""

from siirl.config.environments import TRAINING, seen_by, validates_in
from siirl.config.schema import Config
from siirl.data.manifest import Prompt, build_prompts
from siirl.envs.base import ENVS

Prompts = tuple[list[Prompt], list[Prompt]]
"""Training and validation."""


def find_prompts(config: Config) -> Prompts:
    """The training and the validation prompts; none to train with ``trainer.val_only`` where another environment validates.

    Raises:
        ValueError: as `EnvFactory.tasks` or `build_prompts`.
    """
    name = validates_in(config)
    if name == TRAINING:
        return _prompts(config)
    train = [] if config.trainer.val_only else _prompts(config)[0]
    return train, _prompts(seen_by(config, name))[1]


def _prompts(config: Config) -> Prompts:
    """Of the tasks of ``env``."""
    env = config.actor_rollout_ref.embodied.env
    factory = ENVS.get(env.env_type)
    return build_prompts(config, factory.tasks(env), env.max_steps or factory.default_max_steps(env))
