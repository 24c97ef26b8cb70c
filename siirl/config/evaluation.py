"""What an evaluation reads of the config: what of it cannot work, and which keys its numbers depend on."""

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from siirl.config.acting import check_compiler, check_evaluated_sampling
from siirl.config.action_noise import check_action_noise
from siirl.config.checks import EMBODIED, ENV, check_env, check_episode, check_policy_folder
from siirl.config.cluster import check_machines
from siirl.config.keys import get_value, refuse
from siirl.config.placement import check_placement
from siirl.config.schema import Config, WorldModelConfig
from siirl.config.starvla import check_starvla

FOLDER, SPLIT, SUITES = "evaluate.folder", "evaluate.split", "evaluate.suites"
MODEL, WORLD_MODEL = "actor_rollout_ref.model", f"{ENV}.world_model"

WORLD_MODEL_PACE = ("cpu_threads", "batch_size", "offload", "use_torch_compile")
"""How fast a world model imagines, not what."""

MEANING = (
    "evaluate.split",
    "evaluate.rollout_epoch",
    "evaluate.do_sample",
    "evaluate.temperature",
    "evaluate.top_k",
    "evaluate.top_p",
    "trainer.seed",
    f"{MODEL}.dtype",
    f"{MODEL}.action_noise.initial_std",
    f"{MODEL}.action_noise.min_std",
    f"{MODEL}.action_noise.max_std",
    f"{MODEL}.action_noise.per_dimension",
    f"{MODEL}.starvla.action_stats_source",
    f"{EMBODIED}.embodied_type",
    f"{EMBODIED}.action_token_len",
    f"{EMBODIED}.action_chunks_len",
    f"{EMBODIED}.num_executed_actions",
    f"{EMBODIED}.center_crop",
    f"{EMBODIED}.num_images_in_input",
    f"{ENV}.env_type",
    f"{ENV}.task_ids",
    f"{ENV}.max_steps",
    f"{ENV}.sim_backend",
    f"{ENV}.num_steps_wait",
    f"{ENV}.num_trials_per_task",
    f"{ENV}.num_holdout_trials",
    f"{ENV}.model_family",
    f"{ENV}.image_size",
    f"{ENV}.camera_fov",
    f"{ENV}.antialiasing",
    f"{ENV}.max_texture_size",
    *(f"{WORLD_MODEL}.{field.name}" for field in fields(WorldModelConfig) if field.name not in WORLD_MODEL_PACE),
)
"""Keys that decide which episodes are run and how they go, beside suites and statistics. All others (simulators, machines,
placement, time limits) may change when an evaluation is gone on with."""

BESIDE = (
    *(FOLDER, SUITES, "evaluate.policy", f"{MODEL}.path", f"{MODEL}.use_torch_compile"),
    *(f"{EMBODIED}.unnorm_key", f"{ENV}.env_name", f"{ENV}.num_envs", f"{ENV}.asset_dir", f"{ENV}.step_timeout"),
    *(f"{WORLD_MODEL}.{name}" for name in WORLD_MODEL_PACE),
    *(f"trainer.{name}" for name in ("nnodes", "n_gpus_per_node", "backend", "deterministic", "cpu_threads")),
    *("trainer.logger", "trainer.report", "actor_rollout_ref.rollout.pipeline_stage_num"),
)
"""Keys that an evaluation reads beside `MEANING`: what it is of, and where and on what it runs; and those of `SECTIONS`."""
SECTIONS = (f"{ENV}.val_video_cfg.", f"{MODEL}.starvla.", "cluster.")


def is_read(key: str) -> bool:
    """Whether an evaluation reads a key; all others are training's."""
    return key in MEANING or key in BESIDE or key.startswith(SECTIONS)


def meaning(config: Config) -> dict[str, Any]:
    """The values of `MEANING`."""
    return {key: get_value(config, key) for key in MEANING}


def check_evaluation(config: Config) -> list[str]:
    """Every impossible combination of what an evaluation reads, one line each."""
    return [line for check in CHECKS for line in check(config)]


def check_trials(config: Config) -> Iterator[str]:
    """Held-out trials must have been held out."""
    held_out = f"{ENV}.num_holdout_trials"
    if config.evaluate.split == "holdout" and get_value(config, held_out) == 0:
        allowed = f"all with {held_out}=0, which holds out none"
        yield refuse(config, SPLIT, allowed, f"{SPLIT}=all, or {held_out}=<how many of each task>")


def check_suites(config: Config) -> Iterator[str]:
    """Each suite once."""
    suites = config.evaluate.suites
    if suites is not None and (not suites or len(set(suites)) < len(suites)):
        yield refuse(config, SUITES, "a list of at least one suite, each named once, or null", f"{SUITES}=null")


def check_folder(config: Config) -> Iterator[str]:
    """Results must have a place to go to."""
    folder = Path(config.evaluate.folder).absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not config.dry_run and (not existing.is_dir() or not os.access(existing, os.W_OK)):
        why = "cannot be written to" if existing.is_dir() else "is a file"
        allowed = f"a place that can be written to; {existing} {why}"
        yield refuse(config, FOLDER, allowed, f"set {FOLDER} to another place")


CHECKS = (
    check_evaluated_sampling,
    check_compiler,
    check_episode,
    check_action_noise,
    check_starvla,
    check_env,
    check_machines,
    check_placement,
    check_policy_folder,
    check_trials,
    check_suites,
    check_folder,
)
