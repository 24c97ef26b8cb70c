"""Combinations of keys that cannot work, found before anything starts.

Each check yields lines made by `refuse`; those of one idea that are many have a file beside this one. What needs the
simulator, the policy folder or the registries is checked in `siirl.client.preflight`.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from siirl.config.acting import check_compiler, check_sampling, executed_actions
from siirl.config.action_noise import check_action_noise
from siirl.config.algorithms import check_critic, check_estimator, check_levels, check_reference, group_too_small
from siirl.config.cluster import check_machines, check_offload, check_staleness
from siirl.config.environments import VALIDATION, check_real_fraction, check_unnamed, seen_by, told_of, validates_in
from siirl.config.folders import is_policy_folder
from siirl.config.keys import get_value, given, refuse
from siirl.config.lora import check_lora
from siirl.config.placement import check_placement
from siirl.config.problems import show
from siirl.config.schema import Config
from siirl.config.starvla import check_starvla
from siirl.config.videos import check_videos

ENV = "actor_rollout_ref.embodied.env"
EMBODIED = "actor_rollout_ref.embodied"
ROLLOUT = "actor_rollout_ref.rollout"
ACTOR = "actor_rollout_ref.actor"
SAMPLING = "algorithm.embodied_sampling"
VIDEOS = (f"{ENV}.video_cfg", f"{ENV}.val_video_cfg")


def check_config(config: Config) -> list[str]:
    """Every impossible combination, one line each; empty when the config can run."""
    checks = CHECKS if config.trainer.val_only else TRAINING_CHECKS + CHECKS
    return list(dict.fromkeys(line for check in checks for line in check(config)))


def check_bounds(config: Config) -> Iterator[str]:
    """The accuracy band must be one that a group of n episodes can fall into."""
    sampling, n = config.algorithm.embodied_sampling, config.actor_rollout_ref.rollout.n
    low, high = sampling.accuracy_lower_bound, sampling.accuracy_upper_bound
    lower, upper = f"{SAMPLING}.accuracy_lower_bound", f"{SAMPLING}.accuracy_upper_bound"
    if low > high:
        yield refuse(config, lower, f"at most {given(config, upper)}", f"{lower}={high} {upper}={low}")
    elif group_too_small(config):
        pass  # reported by check_estimator
    elif n == 1 and sampling.filter_accuracy and 0 < low <= high < 1:
        key, band = f"{SAMPLING}.filter_accuracy", f"[{low}, {high}]"
        allowed = f"false with {given(config, ROLLOUT + '.n')}: the accuracy of one episode is 0 or 1, never in {band}"
        yield refuse(config, key, allowed, f"{key}=false, or a larger {ROLLOUT}.n")
    elif sampling.filter_accuracy and not any(low <= k / n <= high for k in range(n + 1)):
        allowed = (
            f"bounds that a group can reach: with {given(config, ROLLOUT + '.n')} its accuracy is k/{n} for a whole k"
        )
        fix = f"widen the band, raise {ROLLOUT}.n, or set {SAMPLING}.filter_accuracy=false"
        yield refuse(config, lower, f"{allowed}, and none lies in [{low}, {high}]", fix)
    is_libero = config.actor_rollout_ref.embodied.env.env_type == "libero"
    if is_libero and sampling.filter_truncated and sampling.filter_accuracy and high < 1:
        key = f"{SAMPLING}.filter_truncated"
        allowed = (
            f"false while {given(config, upper)}: a LIBERO episode that fails is always truncated, so only groups with "
            "accuracy 1 would be left, and the bound drops those"
        )
        yield refuse(config, key, allowed, f"{key}=false or {upper}=1.0")


def check_refill(config: Config) -> Iterator[str]:
    """Refilling and oversampling replace filtered groups, so they need a filter."""
    sampling = config.algorithm.embodied_sampling
    if sampling.filter_accuracy or sampling.filter_truncated:
        return
    filters = f"{given(config, SAMPLING + '.filter_accuracy')} and {given(config, SAMPLING + '.filter_truncated')}"
    for key in ("algorithm.filter_groups.max_num_gen_batches", f"{SAMPLING}.oversample_factor"):
        if get_value(config, key) > 1:
            allowed = f"1 with {filters}: nothing is dropped, so nothing needs replacing"
            yield refuse(config, key, allowed, f"{key}=1, or {SAMPLING}.filter_accuracy=true")


def check_batches(config: Config) -> Iterator[str]:
    """Mini-batches are parts of the batch; warm-up must end within the run."""
    actor, trainer, batch = config.actor_rollout_ref.actor, config.trainer, config.data.train_batch_size
    if actor.ppo_mini_batch_size > batch:
        key = f"{ACTOR}.ppo_mini_batch_size"
        allowed = (
            f"at most {given(config, 'data.train_batch_size')}: a mini-batch is a part of the batch, both in prompts"
        )
        yield refuse(config, key, allowed, f"{key}={batch}, or data.train_batch_size={actor.ppo_mini_batch_size}")
    steps = trainer.total_training_steps
    if steps is not None:
        updates = steps * actor.ppo_epochs * math.ceil(batch / actor.ppo_mini_batch_size)
        for key in (f"{ACTOR}.optim.lr_warmup_steps", "critic.warmup_steps"):
            if get_value(config, key) >= updates:
                total = given(config, "trainer.total_training_steps")
                allowed = f"below {updates}, the optimizer steps that {total} gives"
                yield refuse(config, key, allowed, f"{key}={updates // 10}")
    if config.data.train_files == config.data.val_files:
        allowed = f"a file other than {given(config, 'data.train_files')}"
        yield refuse(config, "data.val_files", allowed, "give the two manifests different names")


def check_optimizer(config: Config) -> Iterator[str]:
    """AdamW's two decay rates."""
    betas = config.actor_rollout_ref.actor.optim.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        key = f"{ACTOR}.optim.betas"
        yield refuse(config, key, "two numbers ≥ 0 and < 1", f"{key}=[0.9,0.999]")


def check_episode(config: Config) -> Iterator[str]:
    """Chunk, episode and response lengths must fit into each other."""
    embodied = config.actor_rollout_ref.embodied
    chunk, token_len, max_steps = embodied.action_chunks_len, embodied.action_token_len, embodied.env.max_steps
    chunk_key, executed_key = f"{EMBODIED}.action_chunks_len", f"{EMBODIED}.num_executed_actions"
    if executed_actions(embodied) > chunk:
        allowed = (
            f"at most {given(config, chunk_key)}: of the actions that a forward predicts the first ones are executed"
        )
        yield refuse(config, executed_key, allowed, f"{executed_key}=null for all {chunk}, or a number up to that")
    if chunk * token_len > config.data.max_response_length:
        key = "data.max_response_length"
        product = f"{given(config, chunk_key)} × {given(config, EMBODIED + '.action_token_len')}"
        yield refuse(config, key, f"at least {chunk * token_len} ({product})", f"{key}={chunk * token_len}")
    if max_steps is not None:
        yield from check_max_steps(config, max_steps, given(config, f"{ENV}.max_steps"))


def check_max_steps(config: Config, max_steps: int, source: str) -> Iterator[str]:
    """An episode of ``max_steps`` must hold what is executed of a chunk and fit the response length; ``source``: its origin."""
    embodied, longest = config.actor_rollout_ref.embodied, f"{ROLLOUT}.response_length"
    if executed_actions(embodied) > max_steps:
        name = "action_chunks_len" if embodied.num_executed_actions is None else "num_executed_actions"
        chunk, allowed = f"{EMBODIED}.{name}", f"at most the episode's {max_steps} steps ({source})"
        yield refuse(config, chunk, allowed, f"{chunk}={max_steps}, or a larger {ENV}.max_steps")
    if max_steps > get_value(config, longest):
        allowed = f"at least the episode's {max_steps} steps ({source})"
        yield refuse(config, longest, allowed, f"{longest}={max_steps}, or a smaller {ENV}.max_steps")


def check_env(config: Config) -> Iterator[str]:
    """Tasks, trials and simulator slots."""
    env = config.actor_rollout_ref.embodied.env
    if env.num_holdout_trials > most_held_out(config):
        key, trials = f"{ENV}.num_holdout_trials", given(config, ENV + ".num_trials_per_task")
        if config.trainer.val_only:
            yield refuse(config, key, f"at most {trials}", f"{key}={env.num_trials_per_task}")
        else:
            allowed = f"fewer than {trials}: some trials must be left for training"
            yield refuse(config, key, allowed, f"{key}={env.num_trials_per_task // 5}")
    if env.task_ids is not None and (not env.task_ids or len(set(env.task_ids)) < len(env.task_ids)):
        key = f"{ENV}.task_ids"
        yield refuse(config, key, "a list of at least one task, each named once, or null for all", f"{key}=null")
    gpus = "trainer.n_gpus_per_node"
    if env.sim_backend == "gpu" and config.trainer.n_gpus_per_node == 0:
        key = f"{ENV}.sim_backend"
        yield refuse(config, key, f"cpu with {given(config, gpus)}", f"{key}=cpu, or {gpus}=<GPUs of a machine>")
    stages = f"{ROLLOUT}.pipeline_stage_num"
    if get_value(config, stages) > env.num_envs:
        allowed = f"at most {given(config, ENV + '.num_envs')}: each stage needs a simulator slot"
        yield refuse(config, stages, allowed, f"{stages}={env.num_envs}, or a larger {ENV}.num_envs")


def check_val_env(config: Config) -> Iterator[str]:
    """Another environment that validates."""
    yield from check_unnamed(config)
    if validates_in(config) == VALIDATION:
        alone = seen_by(config, VALIDATION)
        yield from (told_of(config, VALIDATION, line) for line in (*check_env(alone), *check_episode(alone)))


def most_held_out(config: Config) -> int:
    """The most trials of a task that can be held out: all but one, and all when nothing is trained."""
    return config.actor_rollout_ref.embodied.env.num_trials_per_task - (not config.trainer.val_only)


def check_schedule(config: Config) -> Iterator[str]:
    """Intervals, trackers and resuming."""
    trainer = config.trainer
    for key in ("trainer.save_freq", "trainer.test_freq", "trainer.timeline_freq"):
        if get_value(config, key) == 0:
            yield refuse(config, key, "a number of steps ≥ 1, or -1 for never", f"{key}=-1")
    if len(set(trainer.logger)) < len(trainer.logger):
        unique = list(dict.fromkeys(trainer.logger))
        yield refuse(config, "trainer.logger", "each tracker once", f"trainer.logger={show(unique)}")
    if trainer.val_only and trainer.resume_mode == "resume_path":
        key, fix = "trainer.resume_mode", "export the checkpoint's policy (docs/checkpoints.md) and name that folder"
        yield refuse(config, key, "auto or disable with trainer.val_only=true, which resumes nothing", fix)
    key, mode = "trainer.resume_from_path", given(config, "trainer.resume_mode")
    if trainer.resume_mode != "resume_path":
        if trainer.resume_from_path is not None:
            fix = f"trainer.resume_mode=resume_path or {key}=null"
            yield refuse(config, key, f"null with {mode}, which would ignore it", fix)
    elif trainer.resume_from_path is None:
        yield refuse(config, key, f"a global_step_N folder with {mode}", f"{key}=<run folder>/global_step_<N>")
    elif not Path(trainer.resume_from_path).is_dir():
        newest = f"the newest checkpoint of {given(config, 'trainer.default_local_dir')}"
        fix = f"name an existing folder, or set trainer.resume_mode=auto for {newest}"
        yield refuse(config, key, "an existing global_step_N folder", fix)


def check_policy_folder(config: Config) -> Iterator[str]:
    """The policy must be a local folder; a dry run needs none, unless one is named."""
    key, path = "actor_rollout_ref.model.path", config.actor_rollout_ref.model.path
    allowed = "a local folder in Hugging Face layout"
    folder = Path(path)
    if not path:
        if not config.dry_run:
            yield refuse(config, key, allowed, f"{key}=<folder>, or the shipped policy with model=start_policy")
    elif path.startswith("~"):
        yield refuse(config, key, f"{allowed} ('~' is not expanded here)", f"{key}=$HOME{path[1:]}")
    elif not folder.is_dir():
        is_hub_id = not folder.exists() and path.count("/") == 1 and not path.startswith((".", "/"))
        name = path.rpartition("/")[2]
        fix = f"give the folder that holds config.json{' rather than a file' if folder.exists() else ''}"
        if is_hub_id:
            local = f"models/{name}"
            download = f"`hf download {path} --local-dir {local}`, then {key}={local}"
            fix = f"correct it; or, if that is a repository of the Hugging Face Hub, {download}"
        yield refuse(config, key, f"{allowed}; there is no such folder", fix)
    elif not config.dry_run and not is_policy_folder(folder):
        yield refuse(
            config,
            key,
            f"{allowed}; this one has no config.json, nor StarVLA's config.yaml",
            "give the folder that holds config.json",
        )


def check_video_encoder(config: Config) -> Iterator[str]:
    """V-JEPA 2 needs weights, the pixel encoder takes none."""
    embodied, key = config.actor_rollout_ref.embodied, f"{EMBODIED}.video_embedding_model_path"
    encoder, path = f"{EMBODIED}.video_encoder", embodied.video_embedding_model_path
    if embodied.embedding_model_offload and embodied.video_encoder != "vjepa2" and not path:
        offload = f"{EMBODIED}.embedding_model_offload"
        allowed = f"false with {given(config, encoder)} and {given(config, key)}: the pixel encoder has no weights"
        yield refuse(config, offload, allowed, f"{offload}=false, or name V-JEPA 2's weights with {key}")
    if embodied.video_encoder == "vjepa2" and not path and not config.dry_run:
        fix = f"{key}=<vitg-384.pt or folder>, or {encoder}=pixels, which needs no weights"
        yield refuse(config, key, f"a path with {given(config, encoder)}", fix)
    if embodied.video_encoder == "pixels" and path:
        yield refuse(
            config, key, f"null with {given(config, encoder)}, which would ignore it", f"{key}=null or {encoder}=vjepa2"
        )
    elif path and not Path(path).exists():
        fix = "`hf download Sylvest/vjepa2-vit-g --local-dir models/vjepa2`, then give the .pt file in it"
        yield refuse(config, key, "an existing file or folder", fix)


def check_outputs(config: Config) -> Iterator[str]:
    """What is written must have a folder to go to."""
    if config.dry_run:
        return
    trainer, data = config.trainer, config.data
    folders = {
        "data.train_files": Path(data.train_files).absolute().parent,
        "data.val_files": Path(data.val_files).absolute().parent,
        "trainer.default_local_dir": Path(trainer.default_local_dir).absolute(),
    }
    if trainer.val_only:
        del folders["data.train_files"]
    optional = (
        "trainer.tensorboard_dir",
        *(f"{key}.video_base_dir" for key in VIDEOS if get_value(config, f"{key}.save_video")),
    )
    folders |= {key: Path(folder).absolute() for key in optional if (folder := get_value(config, key)) is not None}
    for key, folder in folders.items():
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            why = "cannot be written to" if existing.is_dir() else "is a file"
            yield refuse(
                config, key, f"a place that can be written to; {existing} {why}", f"set {key} to another place"
            )


TRAINING_CHECKS = (
    check_estimator,
    check_critic,
    check_levels,
    check_reference,
    check_bounds,
    check_refill,
    check_batches,
    check_optimizer,
    check_video_encoder,
    check_offload,
    check_staleness,
    check_real_fraction,
)
"""Of what a run that only validates does not read."""
CHECKS = (
    check_sampling,
    check_compiler,
    check_episode,
    check_action_noise,
    check_starvla,
    check_env,
    check_val_env,
    check_machines,
    check_placement,
    check_schedule,
    check_policy_folder,
    check_lora,
    check_videos,
    check_outputs,
)
