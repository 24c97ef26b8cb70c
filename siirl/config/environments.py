"""The environments of a run: the one that trains and, where ``val_env`` names one, another that validates.

Training may be imagined and validation real. Each is called by its section: an `EpisodeSpec` says which one runs it, a simulator
process which one it is.
"""

from collections.abc import Iterator
from dataclasses import fields, replace

from siirl.config.keys import get_value, refuse
from siirl.config.schema import Config, EmbodiedConfig, EnvConfig, ValEnvConfig

TRAINING, VALIDATION = "env", "val_env"
ENV, VAL_ENV = (f"actor_rollout_ref.embodied.{name}" for name in (TRAINING, VALIDATION))


def validation_env(embodied: EmbodiedConfig) -> EnvConfig:
    """The settings of the environment that validates: those of ``env``, and what ``val_env`` says otherwise."""
    return replace(embodied.env, **{name: value for name, value in vars(embodied.val_env).items() if value is not None})


def validates_in(config: Config) -> str:
    """The name of the environment that validates."""
    return TRAINING if config.actor_rollout_ref.embodied.val_env.env_type is None else VALIDATION


def declared(config: Config) -> dict[str, EnvConfig]:
    """Every environment that the config names, by name, the training one first."""
    embodied = config.actor_rollout_ref.embodied
    other = {} if validates_in(config) == TRAINING else {VALIDATION: validation_env(embodied)}
    return {TRAINING: embodied.env} | other


def environments(config: Config) -> dict[str, EnvConfig]:
    """The environments whose simulators the run needs: of two, one that only validates has no use for the training one."""
    envs = declared(config)
    if config.trainer.val_only and len(envs) > 1:
        del envs[TRAINING]
    return envs


def seen_by(config: Config, name: str) -> Config:
    """``config`` as a run in one environment alone would have it: the validating one as a run that only validates."""
    if name == TRAINING:
        return config
    embodied = config.actor_rollout_ref.embodied
    alone = replace(embodied, env=validation_env(embodied), val_env=ValEnvConfig())
    section = replace(config.actor_rollout_ref, embodied=alone)
    return replace(config, actor_rollout_ref=section, trainer=replace(config.trainer, val_only=True))


def told_of(config: Config, name: str, line: str) -> str:
    """A problem that `seen_by` has, in terms of the keys that were given."""
    if name == VALIDATION:
        for field in fields(ValEnvConfig):
            if get_value(config, f"{VAL_ENV}.{field.name}") is not None:
                line = line.replace(f"{ENV}.{field.name}=", f"{VAL_ENV}.{field.name}=")
    return line


def check_unnamed(config: Config) -> Iterator[str]:
    """Settings of another environment that is not named."""
    if validates_in(config) == TRAINING:
        for field in fields(ValEnvConfig):
            key = f"{VAL_ENV}.{field.name}"
            if get_value(config, key) is not None:
                allowed = f"null with {VAL_ENV}.env_type=null: validation runs in {ENV}, and it would be ignored"
                yield refuse(config, key, allowed, f"{VAL_ENV}.env_type=<environment>, or {key}=null")
