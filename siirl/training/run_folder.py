"""Refuses to continue a run under another meaning: a run folder belongs to one policy, task set and reward."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from siirl.config.schema import Config
from siirl.training.checkpoint import STATE, CheckpointManager, read, verify

EMBODIED = "actor_rollout_ref.embodied"
MEANING = (
    "data.train_files",
    "data.shuffle",
    "trainer.seed",
    "algorithm.workflow_type",
    "algorithm.reward",
    "algorithm.adv_estimator",
    "algorithm.gamma",
    "algorithm.lam",
    "algorithm.norm_adv_by_std_in_grpo",
    f"{EMBODIED}.embodied_type",
    f"{EMBODIED}.action_token_len",
    f"{EMBODIED}.action_chunks_len",
    f"{EMBODIED}.center_crop",
    f"{EMBODIED}.num_images_in_input",
    f"{EMBODIED}.unnorm_key",
    f"{EMBODIED}.env.env_type",
    f"{EMBODIED}.env.env_name",
    f"{EMBODIED}.env.task_ids",
    f"{EMBODIED}.env.num_steps_wait",
    f"{EMBODIED}.env.num_trials_per_task",
    f"{EMBODIED}.env.num_holdout_trials",
    f"{EMBODIED}.env.model_family",
    f"{EMBODIED}.env.image_size",
    "critic.use_critic_model",
    "dag.custom_pipeline_fn",
)
"""Keys that a checkpoint's weights, optimizer and place among the prompts depend on. All others (lengths, batch sizes,
learning rate, logging, hardware) may change when a run goes on."""


def check_same_run(folder: Path, config: Config) -> None:
    """Compare ``config`` with the one stored in the checkpoint that the run would resume from, before anything starts.

    With ``trainer.resume_mode=disable``, or when there is no checkpoint, anything goes.

    Raises:
        ValueError: ``trainer.resume_from_path`` is missing or broken, or keys of `MEANING` differ; names each with its
            old and new value.
    """
    checkpoint = _resumed_from(folder, config)
    if checkpoint is None:
        return
    old = json.loads((checkpoint / STATE).read_text())["config"]
    new = dataclasses.asdict(config)
    changes = [(key, _value(old, key), _value(new, key)) for key in MEANING if _has(old, key)]
    changes += _architecture_changes(_value(old, "actor_rollout_ref.model.path"), config.actor_rollout_ref.model.path)
    lines = [f"  {key}: {before!r} → {after!r}" for key, before, after in changes if before != after]
    if lines:
        raise ValueError(
            f"{checkpoint} comes from a run with another config:\n"
            + "\n".join(lines)
            + "\nset these keys back, or trainer.default_local_dir to another folder with trainer.resume_mode=auto, or start "
            "anew here with trainer.resume_mode=disable (the checkpoints are kept, in a subfolder set_aside_N)"
        )


def _resumed_from(folder: Path, config: Config) -> Path | None:
    """The checkpoint folder to compare with; weights are not hashed here, the search that loads them does that."""
    if config.trainer.resume_mode == "disable":
        return None
    if config.trainer.resume_mode == "resume_path":
        return read(config.trainer.resume_from_path).path
    candidates = [folder / f"global_step_{step}" for step in reversed(CheckpointManager(folder, keep=1).steps())]
    return next((path for path in candidates if verify(path, only=STATE) is None), None)


def _architecture_changes(old_path: str, new_path: str) -> list[tuple[str, Any, Any]]:
    """Differences of the two policies' ``config.json``, as far as both folders are (still) there."""
    files = [Path(path) / "config.json" for path in (old_path, new_path)]
    if old_path == new_path or not all(file.is_file() for file in files):
        return []  # a checkpoint of other tensors is refused when it is loaded
    old, new = (json.loads(file.read_text()) for file in files)
    keys = [key for key in {**old, **new} if not key.startswith("_") and key != "transformers_version"]
    return [(f"config.json of actor_rollout_ref.model.path: {key}", old.get(key), new.get(key)) for key in keys]


def _has(tree: dict[str, Any], key: str) -> bool:
    """Whether a stored config, perhaps of an older version, knows the key."""
    head, _, rest = key.partition(".")
    return head in tree and (not rest or _has(tree[head], rest))


def _value(tree: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree
