"""Settings of a run as its model card shows them: without anything that only means something on one machine."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from siirl.config.evaluation import MEANING as EVALUATED
from siirl.config.keys import KEYS, get_value
from siirl.config.load import read_config
from siirl.config.problems import show
from siirl.config.schema import Config

USUAL = "embodied_srpo_trainer"
"""The shipped file that ``siirl evaluate`` starts from where no other is named."""
EMBODIED = "actor_rollout_ref.embodied"
ACTING = (f"{EMBODIED}.unnorm_key", f"{EMBODIED}.env.env_name", *EVALUATED)
LEARNING = (
    *("algorithm.", "critic.", f"{EMBODIED}.", "actor_rollout_ref.actor.", "actor_rollout_ref.rollout."),
    *("actor_rollout_ref.model.lora", "actor_rollout_ref.model.target_modules", "actor_rollout_ref.model.dtype"),
    *("data.train_batch_size", "dag.custom_pipeline_fn", "trainer.seed", "trainer.max_staleness"),
)
"""How the names of keys begin that what was learned depends on."""
NOT_LEARNING = (f"{EMBODIED}.env.video_cfg", f"{EMBODIED}.env.val_video_cfg", f"{EMBODIED}.env.asset_dir")


def excerpt(config: Config) -> list[str]:
    """``key=value`` of the keys that what was learned depends on, where they are not the shipped ones. Of a path only its last
    name is told."""
    chosen = [key for key in KEYS if key.startswith(LEARNING) and not key.startswith(NOT_LEARNING)]
    return [f"{key}={show(_portable(value))}" for key, value in _other(config, chosen)]


def to_evaluate(config: Config) -> list[str]:
    """``key=value`` that an evaluation of the policy needs to show it what it saw in training."""
    keys = [key for key in ACTING if not key.startswith(("evaluate.", "trainer."))]
    unseen = ["evaluate.split=holdout"] if config.actor_rollout_ref.embodied.env.num_holdout_trials else []
    return [*(f"{key}={show(value)}" for key, value in _other(config, keys)), *unseen]


def _other(config: Config, keys: list[str]) -> Iterator[tuple[str, Any]]:
    """Keys with another value than in the shipped file."""
    usual = read_config(USUAL).config
    for key in keys:
        if (value := get_value(config, key)) != get_value(usual, key):
            yield key, value


def _portable(value: Any) -> Any:
    return PurePath(value).name if isinstance(value, str) and "/" in value else value
