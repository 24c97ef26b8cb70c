"""A run folder belongs to one process at a time, and to one policy, task set and reward."""

import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siirl.config.keys import KEYS, set_value
from siirl.config.problems import problem, show
from siirl.config.schema import Config
from siirl.training.checkpoint import STATE, CheckpointManager, read, verify

LOCK = ".lock"

EMBODIED = "actor_rollout_ref.embodied"
WORLD_MODEL = (
    "wm_env_type",
    "chunk",
    "condition_frame_length",
    "num_sampling_steps",
    "use_timestep_transform",
    "dtype",
    "success_threshold",
)
MEANING = (
    "data.shuffle",
    "trainer.seed",
    "algorithm.workflow_type",
    "algorithm.reward",
    "algorithm.adv_estimator",
    "algorithm.gamma",
    "algorithm.lam",
    "algorithm.norm_adv_by_std_in_grpo",
    "algorithm.reward_type",
    "actor_rollout_ref.model.lora_rank",
    "actor_rollout_ref.model.lora_alpha",
    "actor_rollout_ref.model.target_modules",
    "actor_rollout_ref.model.action_noise.per_dimension",
    "actor_rollout_ref.model.starvla.action_stats_source",
    f"{EMBODIED}.embodied_type",
    f"{EMBODIED}.action_token_len",
    f"{EMBODIED}.action_chunks_len",
    f"{EMBODIED}.num_executed_actions",
    f"{EMBODIED}.center_crop",
    f"{EMBODIED}.num_images_in_input",
    f"{EMBODIED}.unnorm_key",
    f"{EMBODIED}.real_fraction",
    f"{EMBODIED}.env.env_type",
    f"{EMBODIED}.env.env_name",
    f"{EMBODIED}.env.task_ids",
    f"{EMBODIED}.env.sim_backend",
    f"{EMBODIED}.env.num_steps_wait",
    f"{EMBODIED}.env.num_trials_per_task",
    f"{EMBODIED}.env.num_holdout_trials",
    f"{EMBODIED}.env.model_family",
    f"{EMBODIED}.env.image_size",
    f"{EMBODIED}.env.antialiasing",
    f"{EMBODIED}.env.max_texture_size",
    *(f"{EMBODIED}.env.world_model.{name}" for name in WORLD_MODEL),
    "critic.use_critic_model",
    "critic.position",
    "dag.custom_pipeline_fn",
)
"""Keys that a checkpoint's weights, optimizer and place among the prompts depend on. All others (lengths, batch sizes,
learning rate, logging, hardware) may change when a run goes on; that the prompts are the same, the sampler checks."""
FIX = (
    "set it back, or trainer.default_local_dir to another folder, or start anew here with trainer.resume_mode=disable "
    "(the checkpoints are kept, in a subfolder set_aside_N)"
)
SAMPLES, SAMPLE_BYTES = 64, 16384
"""Of each file of weights, this many pieces of this many bytes tell one training's weights from another's."""


@contextmanager
def locked(folder: Path, key: str = "trainer.default_local_dir") -> Iterator[None]:
    """Hold a run folder, created if absent, that ``key`` names. However the process ends, the operating system lets go of it.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{key}={folder}: another process is running there (it holds {folder / LOCK}); "
                "wait for it or end it, or name another folder"
            ) from error
        yield


def same_run_problems(folder: Path, config: Config) -> list[str]:
    """How ``config`` differs in `MEANING` from the run of the checkpoint that it would resume from, one line a key.

    With ``trainer.resume_mode=disable``, or when there is no checkpoint, anything goes.

    Raises:
        ValueError: ``trainer.resume_from_path`` is missing or broken.
    """
    checkpoint = resumed_from(folder, config)
    if checkpoint is None:
        return []
    state = json.loads((checkpoint / STATE).read_text())
    old, new = state["config"], dataclasses.asdict(config)
    changes = [(key, _value(old, key), _value(new, key)) for key in MEANING if _has(old, key)]
    path, old_path = config.actor_rollout_ref.model.path, _value(old, "actor_rollout_ref.model.path")
    changes += _architecture_changes(old_path, path)
    found = [
        problem(key, after, f"{show(before)}, as in the run of {checkpoint}", FIX)
        for key, before, after in changes
        if before != after
    ]
    weights = weights_digest(Path(path))
    if Path(path).is_dir() and state.get("start_weights", weights) != weights:
        allowed = f"the weights that the run of {checkpoint} started from ({old_path}); these are others"
        found.append(problem("actor_rollout_ref.model.path", path, allowed, FIX))
    return found


def config_of(state: dict[str, Any]) -> Config:
    """The config of the run that wrote a checkpoint with this ``trainer_state.json``; keys that its version of siirl did
    not know have their defaults."""
    config = Config()
    for key in KEYS:
        if _has(state["config"], key):
            set_value(config, key, _value(state["config"], key))
    return config


def weights_digest(folder: Path) -> str:
    """A SHA-256 sum, hexadecimal, over the sizes and samples of a policy's ``*.safetensors`` and ``*.pt`` (parts beside the
    weights, or StarVLA's checkpoints); reads 1 MiB of each."""
    digest = hashlib.sha256()
    files = [
        file
        for place in (folder, folder / "checkpoints")
        for end in ("safetensors", "pt")
        for file in place.glob(f"*.{end}")
    ]
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for i in range(SAMPLES):
                file.seek(i * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def resumed_from(folder: Path, config: Config) -> Path | None:
    """The checkpoint folder that a run would resume from, None where it would start anew; of the newest ones in ``folder`` the
    weights are not hashed here, the search that loads them does that.

    Raises:
        ValueError: ``trainer.resume_from_path`` is missing or broken.
    """
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
