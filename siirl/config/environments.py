"""The environments of a run: the one that trains and, where ``val_env`` names one, another that validates.

Training may be imagined and validation real; a part of the training, ``real_fraction``, may be real, too. Each is called by its
section: an `EpisodeSpec` says which one runs it, a simulator process which one it is.
"""

from collections.abc import Iterator
from dataclasses import fields, replace

from siirl.config.keys import get_value, given, refuse
from siirl.config.schema import Config, EmbodiedConfig, EnvConfig, ValEnvConfig

TRAINING, VALIDATION = "env", "val_env"
ENV, VAL_ENV = (f"actor_rollout_ref.embodied.{name}" for name in (TRAINING, VALIDATION))
REAL = "actor_rollout_ref.embodied.real_fraction"


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
    """``config`` as a run in one environment alone would have it: the validating one as a run that only validates, also where
    ``real_fraction`` trains in it."""
    if name == TRAINING:
        return config
    embodied = config.actor_rollout_ref.embodied
    alone = replace(embodied, env=validation_env(embodied), val_env=ValEnvConfig(), real_fraction=0.0)
    section = replace(config.actor_rollout_ref, embodied=alone)
    return replace(config, actor_rollout_ref=section, trainer=replace(config.trainer, val_only=True))


def told_of(config: Config, name: str, line: str) -> str:
    """A problem that `seen_by` has, in terms of the keys that were given."""
    if name == VALIDATION:
        for field in fields(ValEnvConfig):
            if get_value(config, f"{VAL_ENV}.{field.name}") is not None:
                line = line.replace(f"{ENV}.{field.name}=", f"{VAL_ENV}.{field.name}=")
    return line


def group_share(config: Config, name: str) -> float:
    """The part of a training step's groups that the environment rolls out."""
    real = config.actor_rollout_ref.embodied.real_fraction
    share = real if name == VALIDATION else 1 - real
    return 0.0 if config.trainer.val_only else share


def check_real_fraction(config: Config) -> Iterator[str]:
    """Real groups beside imagined ones need another environment, trials of it that do not validate, and all of them trained."""
    share, factor = config.actor_rollout_ref.embodied.real_fraction, "algorithm.embodied_sampling.oversample_factor"
    if not share:
        return
    key = f"{VAL_ENV}.env_type"
    if validates_in(config) == TRAINING:
        allowed = f"0 with {given(config, key)}: there is no other environment to roll out in"
        yield refuse(config, REAL, allowed, f"{key}=<environment>, or {REAL}=0")
        return
    other = validation_env(config.actor_rollout_ref.embodied)
    if other.num_holdout_trials >= other.num_trials_per_task:
        allowed = f"0 with {VAL_ENV}.num_holdout_trials={other.num_holdout_trials}: all of its trials validate"
        yield refuse(config, REAL, allowed, f"{VAL_ENV}.num_holdout_trials={other.num_trials_per_task // 5}")
    if share < 1 and get_value(config, factor) > 1:
        allowed = (
            f"1 with {given(config, REAL)}: what is too many is cancelled, and that would be the slower environment's"
        )
        yield refuse(config, factor, allowed, f"{factor}=1")


def check_unnamed(config: Config) -> Iterator[str]:
    """Settings of another environment that is not named."""
    if validates_in(config) == TRAINING:
        for field in fields(ValEnvConfig):
            key = f"{VAL_ENV}.{field.name}"
            if get_value(config, key) is not None:
                allowed = f"null with {VAL_ENV}.env_type=null: validation runs in {ENV}, and it would be ignored"
                yield refuse(config, key, allowed, f"{VAL_ENV}.env_type=<environment>, or {key}=null")
