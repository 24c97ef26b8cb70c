"""What must hold before anything starts and needs more than the config to be known: registries, tasks, and what lies in
the policy folder, in the manifests and in the run folder."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from siirl.algorithms.base import ADVANTAGES
from siirl.config.action_noise import NOISE
from siirl.config.checks import EMBODIED, ENV, check_max_steps, most_held_out
from siirl.config.folders import is_policy_folder
from siirl.config.keys import KEYS, get_value, given, refuse
from siirl.config.problems import show
from siirl.config.schema import Config, EnvConfig
from siirl.dag.compile import placement_problems
from siirl.dag.graph import Graph
from siirl.dag.pipelines import build_graph
from siirl.data.manifest import build_prompts, manifest_problems
from siirl.embeddings.base import ENCODERS, encoder_name
from siirl.envs.base import ENVS, EnvFactory, Task
from siirl.observe.trackers.make import missing_packages
from siirl.policies.base import POLICIES, PolicyFactory, ValueHeadSettings
from siirl.policies.prismatic.actions import NO_NOOPS
from siirl.registry import Registry
from siirl.rewards.base import REWARDS
from siirl.training.checkpoint import METRICS, saved_steps
from siirl.training.run_folder import same_run_problems

ENV_TYPE, POLICY_TYPE, VIDEO_ENCODER = f"{ENV}.env_type", f"{EMBODIED}.embodied_type", f"{EMBODIED}.video_encoder"
VIDEO_WEIGHTS = f"{EMBODIED}.video_embedding_model_path"


def preflight(config: Config) -> list[str]:
    """Everything that would stop the run, one line each: the key, the value, what is allowed and the fix.

    No weights are read, no simulator is built, and nothing is written.
    """
    unknown_reward = list(_unknown(config, REWARDS, "algorithm.reward"))
    problems = [*unknown_reward, *_unknown(config, ADVANTAGES, "algorithm.adv_estimator"), *_check_run_folder(config)]
    if not config.dry_run:
        problems += missing_packages(config)
    graph = None
    if config.dag.custom_pipeline_fn or not unknown_reward:
        graph, wrong = _workflow(config)
        problems += wrong
    problems += _check_video_encoder(config, graph)
    return problems + component_problems(config, graph, has_manifests=not config.dry_run)


def component_problems(config: Config, graph: Graph | None, has_manifests: bool) -> list[str]:
    """What is wrong with the environment, its tasks, where things live, and the policy, one line each.

    Args:
        graph: the workflow; None where it cannot be placed for what is wrong with it.
        has_manifests: whether there may be files of prompts that these must be.
    """
    problems: list[str] = []
    tasks: list[Task] = []
    if unknown := list(_unknown(config, ENVS, ENV_TYPE)):
        problems += unknown
    else:
        env = config.actor_rollout_ref.embodied.env
        factory = ENVS.get(env.env_type)
        problems += placement_problems(graph, config) if graph else []
        try:
            tasks = factory.tasks(env)
            problems += [
                *_check_slots(config, factory),
                *_check_simulator(config, factory),
                *_check_lengths(config, factory),
                *_check_prompts(config, factory, tasks, has_manifests),
                *_check_statistics(config, factory),
            ]
        except ValueError as error:
            problems.append(f"{given(config, f'{ENV}.env_name')}, {given(config, f'{ENV}.task_ids')}: {error}")
    if unknown := list(_unknown(config, POLICIES, POLICY_TYPE)):
        return problems + unknown
    return problems + list(_check_policy(config, tasks))


def _unknown(config: Config, registry: Registry, key: str, *also: str) -> Iterator[str]:
    """The problem of a name that the registry does not know."""
    try:
        registry.get(get_value(config, key))
    except ValueError as error:
        more = f" (or {', '.join(also)})" if also else ""
        yield f"{given(config, key)}: {error}{more} Fix: set {key} to an allowed name."


def _check_slots(config: Config, factory: EnvFactory) -> Iterator[str]:
    """Without Ray, one process holds every simulator slot."""
    most = factory.max_slots_per_process(config.actor_rollout_ref.embodied.env)
    if config.trainer.backend == "inline" and config.actor_rollout_ref.embodied.env.num_envs > most:
        key = f"{ENV}.num_envs"
        allowed = (
            f"at most {most} with trainer.backend=inline: a process holds no more slots of {given(config, ENV_TYPE)}"
        )
        yield refuse(config, key, allowed, f"{key}={most} or trainer.backend=ray")


def _check_simulator(config: Config, factory: EnvFactory) -> Iterator[str]:
    """Keys that are another simulator's, cameras that there are not, and what this machine lacks if it is the only one."""
    env, defaults, kind = config.actor_rollout_ref.embodied.env, EnvConfig(), given(config, ENV_TYPE)
    for name in sorted(factory.unused_keys):
        key, default = f"{ENV}.{name}", show(getattr(defaults, name))
        if getattr(env, name) != getattr(defaults, name):
            yield refuse(config, key, f"{default} with {kind}, which would ignore it", f"{key}={default}")
    key = f"{EMBODIED}.num_images_in_input"
    if get_value(config, key) > 1 and not factory.has_wrist_camera(env):
        allowed = f"1: the robot of {given(config, f'{ENV}.env_name')} has no camera on its wrist"
        yield refuse(config, key, allowed, f"{key}=1")
    if not config.dry_run and config.trainer.nnodes == 1:
        try:
            factory.check_machine(env)
        except ValueError as error:
            yield f"{kind}: {error}"


def _check_lengths(config: Config, factory: EnvFactory) -> Iterator[str]:
    """The suite's usual episode length, where the config names none."""
    env = config.actor_rollout_ref.embodied.env
    if env.max_steps is None:
        yield from check_max_steps(config, factory.default_max_steps(env), f"the usual length of {env.env_name}")


def _check_prompts(config: Config, factory: EnvFactory, tasks: list[Task], has_manifests: bool) -> Iterator[str]:
    """The trials must exist, be enough for a generation batch without repetition, and be those of the manifests."""
    env = config.actor_rollout_ref.embodied.env
    key = f"{ENV}.num_trials_per_task"
    if not tasks or env.num_holdout_trials > most_held_out(config):
        return  # reported by siirl.config.checks
    trials = min(task.num_trials for task in tasks)
    if env.num_trials_per_task > trials:
        yield refuse(config, key, f"at most {trials}, the trials that {env.env_name} has", f"{key}={trials}")
        return
    max_steps = factory.default_max_steps(env)
    if has_manifests:
        yield from manifest_problems(config, tasks, max_steps)
    if config.trainer.val_only:
        return
    available = len(build_prompts(config, tasks, max_steps)[0])
    wanted = math.ceil(config.data.train_batch_size * config.algorithm.embodied_sampling.oversample_factor)
    if wanted > available:
        factor = given(config, "algorithm.embodied_sampling.oversample_factor")
        source = f"{len(tasks)} tasks × ({given(config, key)} − {given(config, f'{ENV}.num_holdout_trials')})"
        allowed = f"a batch (times {factor}) of at most {available}, the training prompts there are: {source}"
        yield refuse(config, "data.train_batch_size", allowed, "use a smaller batch, or more tasks or trials")


def _check_statistics(config: Config, factory: EnvFactory) -> Iterator[str]:
    """Actions un-normalised for one suite are not those of another. Keys that name no suite (mixtures) may be used in any."""
    embodied, key, name = config.actor_rollout_ref.embodied, f"{EMBODIED}.unnorm_key", f"{ENV}.env_name"
    suite = embodied.unnorm_key.removesuffix(NO_NOOPS)
    if factory.is_other_suite(embodied.env, suite):
        allowed = f"the statistics of {given(config, name)}, or ones that are of no suite; these are of {suite}"
        yield refuse(
            config, key, allowed, f"{name}={suite} to run the suite of the statistics, or {key}={embodied.env.env_name}"
        )


def _workflow(config: Config) -> tuple[Graph | None, list[str]]:
    """The workflow, if it is one that can run, and what is wrong with it."""
    try:
        graph = build_graph(config)
    except ValueError as error:
        return None, [str(error)]
    problems = [f"{given(config, 'dag.custom_pipeline_fn')}: {problem}" for problem in graph.problems()]
    return None if problems else graph, problems


def _check_video_encoder(config: Config, graph: Graph | None) -> Iterator[str]:
    """The encoder must be one that there is and, where the workflow embeds videos, its weights such as it can load."""
    embodied = config.actor_rollout_ref.embodied
    if embodied.video_encoder != "auto" and (unknown := list(_unknown(config, ENCODERS, VIDEO_ENCODER, "auto"))):
        yield from unknown
        return
    path = embodied.video_embedding_model_path
    embeds = graph is not None and any(node.role == "embedding" for node in graph.nodes) and not config.trainer.val_only
    if not path or not Path(path).exists() or not embeds:
        return  # reported by siirl.config.checks, or not read
    try:
        ENCODERS.get(encoder_name(embodied)).check(embodied)
    except ValueError as error:
        yield f"{given(config, VIDEO_WEIGHTS)}: {str(error).removeprefix(f'{path}: ')}"


def _check_run_folder(config: Config) -> Iterator[str]:
    """A run that is resumed must mean the same; one that only validates resumes nothing and keeps to a folder of its own."""
    trainer = config.trainer
    if trainer.val_only and not config.dry_run:
        yield from _check_own_folder(config, Path(trainer.default_local_dir))
    if (
        trainer.val_only
        or config.dry_run
        or (trainer.resume_mode == "resume_path" and not Path(trainer.resume_from_path or "").is_dir())
    ):
        return  # a missing folder is reported by siirl.config.checks
    try:
        yield from same_run_problems(Path(trainer.default_local_dir), config)
    except ValueError as error:
        yield str(error)


def _check_own_folder(config: Config, folder: Path) -> Iterator[str]:
    """One folder, one validation: nothing but its ``config.yaml`` says which policy the metrics are of."""
    key, metrics = "trainer.default_local_dir", folder / METRICS
    fix = f"{key}=<another folder>"
    if saved_steps(folder):
        allowed = "a folder without checkpoints with trainer.val_only=true; this one belongs to a training run"
        yield refuse(config, key, allowed, fix)
    elif metrics.is_file() and metrics.stat().st_size:
        allowed = f"a folder without {METRICS} with trainer.val_only=true; this one has the results of another run"
        yield refuse(config, key, allowed, fix)


def _check_policy(config: Config, tasks: list[Task]) -> Iterator[str]:
    """The config must fit the policy's class, the policy folder the config, and every instruction its longest prompt."""
    ref = config.actor_rollout_ref
    factory = POLICIES.get(ref.embodied.embodied_type)
    if factory.untrainable:
        yield from _check_untrainable(config, factory.untrainable)
    yield from _check_distribution(config, factory.continuous)
    try:
        factory.check_settings(ref.embodied)
    except ValueError as error:
        yield f"{given(config, POLICY_TYPE)}: {error}"
        return
    if not is_policy_folder(Path(ref.model.path)):
        return  # reported by siirl.config.checks, unless this is a dry run
    instructions = [task.instruction for task in tasks] or [""]
    try:
        longest = factory.longest_prompt(ref.model, ref.embodied, instructions, ValueHeadSettings.of(config))
    except ValueError as error:
        yield f"{given(config, 'actor_rollout_ref.model.path')}: {error}"
        return
    yield from _check_reference(config, factory, instructions)
    if longest > config.data.max_prompt_length:
        key = "data.max_prompt_length"
        allowed = f"at least {longest}, the tokens of the longest instruction's prompt"
        yield refuse(config, key, allowed, f"{key}={longest}")


def _check_reference(config: Config, factory: PolicyFactory, instructions: list[str]) -> Iterator[str]:
    """The reference of the KL penalty must be of the policy's class and sizes."""
    ref = config.actor_rollout_ref
    if ref.ref.path is None or not is_policy_folder(Path(ref.ref.path)):
        return  # reported by siirl.config.checks
    try:
        factory.longest_prompt(replace(ref.model, path=ref.ref.path, lora_rank=0), ref.embodied, instructions)
    except ValueError as error:
        yield f"{given(config, 'actor_rollout_ref.ref.path')}: {error}"


def _check_distribution(config: Config, continuous: bool) -> Iterator[str]:
    """Tokens have likeliest ones, and no standard deviation; continuous actions have it the other way round."""
    kind = given(config, POLICY_TYPE)
    sections = ("actor_rollout_ref.rollout", "actor_rollout_ref.rollout.val_kwargs", "evaluate")
    tokens = [f"{section}.{name}" for section in sections for name in ("top_k", "top_p")]
    unread = tokens if continuous else [key for key in KEYS if key.startswith(f"{NOISE}.")]
    why = "draws from a Gaussian: no number is among the likeliest" if continuous else "draws tokens"
    for key in unread:
        if get_value(config, key) != (default := KEYS[key].default):
            yield refuse(config, key, f"{show(default)} with {kind}, which {why}", f"{key}={show(default)}")


def _check_untrainable(config: Config, reason: str) -> Iterator[str]:
    """A policy without a distribution over actions can only be validated, greedily."""
    only, kind = "trainer.val_only", given(config, POLICY_TYPE)
    if not config.trainer.val_only:
        yield refuse(config, only, f"true with {kind}: {reason}", f"{only}=true to evaluate it")
    for sample in ("actor_rollout_ref.rollout.val_kwargs.do_sample", "evaluate.do_sample"):
        if get_value(config, sample):
            yield refuse(config, sample, f"false with {kind}, which has nothing to draw from", f"{sample}=false")
