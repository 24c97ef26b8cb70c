"""How the policy acts, computed from what RLinf's settings say of it (see `siirl.config.computed`)."""

import math
from typing import Any

from siirl.config.aliases import THEIR_MARK
from siirl.config.schema import Config
from siirl.config.theirs import SKIP, Function, Theirs

TOP_K, TOP_P = "rollout.sampling_params.top_k", "rollout.sampling_params.top_p"
TEMPERATURE = "rollout.sampling_params.temperature_train"
EVAL_TEMPERATURE = "rollout.sampling_params.temperature_eval"
MODEL_TYPE = "actor.model.model_type"
INITIAL_LOGSTD = "actor.model.initial_logstd"
THEIR_LOGSTD = -2.0
"""Where RLinf's own file, as published with these settings, says nothing."""


def number(theirs: Theirs, name: str, example: float) -> float:
    """A setting that must be a number."""
    value = theirs[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number", f"{name}={example:g}")
    return value


def initial_std(theirs: Theirs, config: Config) -> Any:
    """exp(`actor.model.initial_logstd`)."""
    log_std = number(theirs, INITIAL_LOGSTD, THEIR_LOGSTD)
    if abs(log_std) > 20:
        raise ValueError("a logarithm between -20 and 20", f"{INITIAL_LOGSTD}={THEIR_LOGSTD:g}")
    return math.exp(log_std)


def their_initial_std(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: exp(−2) with starvla."""
    return math.exp(THEIR_LOGSTD) if gaussian_of_theirs(theirs) else SKIP


def their_noise_lr(theirs: Theirs, config: Config) -> Any:
    """In RLinf's own file: with starvla `actor.optim.lr`, the learning rate of all parameters there."""
    return config.actor_rollout_ref.actor.optim.lr if gaussian_of_theirs(theirs) else SKIP


def noise_lr(theirs: Theirs, config: Config) -> Any:
    """0 with false; with true `actor.optim.lr`, the learning rate of all parameters there."""
    return config.actor_rollout_ref.actor.optim.lr if theirs["actor.model.trainable_logstd"] else 0.0


def gaussian_of_theirs(theirs: Theirs) -> bool:
    """Whether this is RLinf's own file for a policy that acts by a Gaussian, which RLinf does not temper."""
    return THEIR_MARK in theirs and theirs.get(MODEL_TYPE) == "starvla"


def temperature(theirs: Theirs, config: Config) -> Any:
    """The same; in RLinf's own file 1 with starvla, whose Gaussian is not tempered there."""
    return 1.0 if gaussian_of_theirs(theirs) else theirs[TEMPERATURE]


def greedy_or_sampled(theirs: Theirs, config: Config) -> Any:
    """Whether `rollout.sampling_params.temperature_eval` > 0; in RLinf's own file false with starvla, which is always evaluated
    at its mean there."""
    return number(theirs, EVAL_TEMPERATURE, 0) > 0 and not gaussian_of_theirs(theirs)


def validation_only(name: str) -> Function:
    """A setting of sampling in validation, which greedy validation does not read."""

    def value(theirs: Theirs, config: Config) -> Any:
        """The same, where validation samples."""
        sampled = config.actor_rollout_ref.rollout.val_kwargs.do_sample
        return (top_k(theirs, config) if name == TOP_K else theirs[name]) if sampled else SKIP

    return value


def top_k(theirs: Theirs, config: Config) -> Any:
    """The same; 0, which there means all, as well as −1. Log-probs here stay those of all bins."""
    return theirs[TOP_K] or -1
