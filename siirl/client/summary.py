"""What a run would do, in a few plain lines: the beginning of ``dry_run=true``."""

import math
from collections.abc import Iterator
from pathlib import Path

from siirl.client.prompts import find_prompts
from siirl.config.environments import TRAINING, environments, group_share, validates_in
from siirl.config.estimate import parameter_counts
from siirl.config.keys import given
from siirl.config.placement import show_slots
from siirl.config.schema import Config
from siirl.config.shapes import published_size
from siirl.dag.compile import Plan
from siirl.dag.session import total_steps
from siirl.embeddings.base import encoder_name
from siirl.envs.base import ENVS
from siirl.training.checkpoint import STATE, open_verified, saved_steps
from siirl.training.run_folder import resumed_from, same_run_problems


def summary(config: Config, plan: Plan) -> str:
    """The lines.

    Raises:
        ValueError: a file of weights is damaged, or ``trainer.resume_from_path`` is no whole checkpoint.
    """
    train, validate = map(len, find_prompts(config))
    rows = [
        ("policy", _policy(config)),
        *(("tasks", line) for line in _tasks(config)),
        *(_validation(config, validate) if config.trainer.val_only else _training(config, plan, train, validate)),
        *(("run folder", line) for line in _run_folder(config, total_steps(config, train))),
    ]
    title = "what would be validated" if config.trainer.val_only else "what would be trained"
    return "\n".join([title, *(f"  {name:<12} {text}" for name, text in rows)])


def _tasks(config: Config) -> Iterator[str]:
    """Of each environment: how many of which suite, and how long episodes are."""
    envs = environments(config)
    for name, env in envs.items():
        factory = ENVS.get(env.env_type)
        tasks, max_steps = factory.tasks(env), env.max_steps or factory.default_max_steps(env)
        numbers = show_slots(sorted(task.task_id for task in tasks)).replace(",", ", ")
        where = f"in {env.env_type}, {_purpose(config, name)}: " if len(envs) > 1 else ""
        yield f"{where}{len(tasks)} of {env.env_name}: {numbers}; episodes of at most {max_steps} steps"


def _purpose(config: Config, name: str) -> str:
    """What an environment of two is for."""
    share = group_share(config, name)
    part = "" if share == 1 else f" with {share:.0%} of the groups"
    if name == TRAINING:
        return f"to train{part}"
    return f"to train{part} and validate" if share else "to validate"


def _policy(config: Config) -> str:
    """Folder, class, and what of it is trained."""
    ref = config.actor_rollout_ref
    size, adapters, is_there = parameter_counts(config)
    of = f"all {_count(size)} parameters are trained"
    if config.trainer.val_only:
        of = f"{_count(size)} parameters"
    elif adapters:
        share = adapters / (size + adapters)
        of = f"LoRA trains {_count(adapters)} of {_count(size + adapters)} parameters ({share:.2%})"
    folder = ref.model.path or "no folder named"
    published = "" if is_there else f", in the published {published_size(ref.embodied.embodied_type)}"
    return f"{folder} ({ref.embodied.embodied_type}); {of}{published}"


def _training(config: Config, plan: Plan, train: int, validate: int) -> Iterator[tuple[str, str]]:
    """Prompts, reward and steps."""
    ref, held_out = config.actor_rollout_ref, config.actor_rollout_ref.embodied.env.num_holdout_trials
    alike = not held_out and validates_in(config) == TRAINING
    shared = ", the same ones (env.num_holdout_trials=0)" if alike else ""
    yield "prompts", f"{train} for training, {validate} for validation{shared}"
    yield "reward", _reward(config, plan)
    if config.dag.custom_pipeline_fn:
        yield "pipeline", config.dag.custom_pipeline_fn
    prompts = math.ceil(config.data.train_batch_size * config.algorithm.embodied_sampling.oversample_factor)
    batches = config.algorithm.filter_groups.max_num_gen_batches
    refills = f", at most {batches} times over while groups are missing" if batches > 1 else ""
    episodes = f"{prompts * ref.rollout.n} episodes each ({prompts} prompts × {ref.rollout.n}){refills}"
    yield "steps", f"{total_steps(config, train)}, {episodes}"
    yield "overlap", _overlap(config)


def _overlap(config: Config) -> str:
    """What may happen at the same time."""
    stale, stages = config.trainer.max_staleness, config.actor_rollout_ref.rollout.pipeline_stage_num
    lag = f"the next rollout acts during the update, with weights at most {stale} step{'s' * (stale > 1)} old"
    during = lag if stale else "on-policy, only simulators are reset during the update"
    halves = f"the policy acts on 1 of {stages} parts of the slots while the others simulate"
    acting = halves if stages > 1 else "the policy acts on all slots that are ready"
    return f"{during} (trainer.max_staleness={stale}); {acting} (rollout.pipeline_stage_num={stages})"


def _validation(config: Config, prompts: int) -> Iterator[tuple[str, str]]:
    n = config.actor_rollout_ref.rollout.val_kwargs.n
    yield "prompts", f"{prompts}, {prompts * n} episodes"


def _reward(config: Config, plan: Plan) -> str:
    """The reward's name, and the video encoder if the workflow has one."""
    embodied = config.actor_rollout_ref.embodied
    if "embedding" not in plan.placement:
        return config.algorithm.reward
    weights, auto = embodied.video_embedding_model_path, embodied.video_encoder == "auto"
    named = f" of {weights}" if weights else ""
    why = f" (auto: video_embedding_model_path is {'given' if weights else 'null'})" if auto else ""
    return f"{config.algorithm.reward}, with videos embedded by {encoder_name(embodied)}{named}{why}"


def _run_folder(config: Config, steps: int) -> Iterator[str]:
    """Where the run is written, and whether it would resume, start anew or be refused there, and for what."""
    folder = Path(config.trainer.default_local_dir)
    if config.trainer.val_only:
        yield str(folder)
        return
    checkpoint, saved = resumed_from(folder, config), saved_steps(folder)
    is_named = bool(config.actor_rollout_ref.model.path)  # else nothing tells whether it is the run's policy
    if is_named and (refused := same_run_problems(folder, config)):
        yield from (f"{folder}; would be refused: {line}" for line in refused)
    elif checkpoint is not None:
        yield f"{folder}; resumes after step {open_verified(checkpoint).step} of {steps}, from {checkpoint}"
    elif not saved:
        yield f"{folder}; starts anew"
    elif config.trainer.resume_mode == "auto":
        yield f"{folder}; would be refused: none of its checkpoints has a whole {STATE}"
    else:
        mode = given(config, "trainer.resume_mode")
        yield f"{folder}; starts anew ({mode}) and sets the checkpoints there aside, the last of step {saved[-1]}"


def _count(number: int) -> str:
    """E.g. 7.54 billion, 2.1 million, 512."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:,}".replace(",", " ")
