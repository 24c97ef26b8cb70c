"""What must hold before anything starts and needs more than the config to be known: registries, tasks, and what lies in
the policy folder, in the manifests and in the run folder."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from siirl.algorithms.base import ADVANTAGES
from siirl.client.env_checks import ENV_TYPE, environment_problems
from siirl.client.prompts import find_prompts
from siirl.config.action_noise import NOISE
from siirl.config.checks import EMBODIED, most_held_out
from siirl.config.environments import declared, environments, seen_by, told_of
from siirl.config.folders import is_policy_folder
from siirl.config.keys import KEYS, get_value, given, refuse
from siirl.config.problems import show
from siirl.config.schema import Config
from siirl.dag.compile import placement_problems
from siirl.dag.graph import Graph
from siirl.dag.pipelines import build_graph
from siirl.data.manifest import manifest_problems
from siirl.embeddings.base import ENCODERS, encoder_name
from siirl.envs.base import ENVS, Task
from siirl.observe.trackers.make import missing_packages
from siirl.policies.base import POLICIES, PolicyFactory, ValueHeadSettings
from siirl.registry import Registry
from siirl.rewards.base import REWARDS
from siirl.training.checkpoint import METRICS, saved_steps
from siirl.training.run_folder import same_run_problems

POLICY_TYPE, VIDEO_ENCODER = f"{EMBODIED}.embodied_type", f"{EMBODIED}.video_encoder"
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
    if unknown := [line for name in declared(config) for line in _unknown_env(config, name)]:
        problems += unknown
    else:
        problems += placement_problems(graph, config) if graph else []
        found, tasks = environment_problems(config)
        problems += found or (_manifest_problems(config) if has_manifests else [])
    if unknown := list(_unknown(config, POLICIES, POLICY_TYPE)):
        return problems + unknown
    return problems + list(_check_policy(config, tasks))


def _unknown_env(config: Config, name: str) -> list[str]:
    """The problem of an environment's ``env_type`` that the registry does not know."""
    return [told_of(config, name, line) for line in _unknown(seen_by(config, name), ENVS, ENV_TYPE)]


def _manifest_problems(config: Config) -> list[str]:
    """What is wrong with manifests that are there; trials that cannot be held out are told by `siirl.config.checks`."""
    views = [seen_by(config, name) for name in environments(config)]
    if any(one.actor_rollout_ref.embodied.env.num_holdout_trials > most_held_out(one) for one in views):
        return []
    return manifest_problems(config, *find_prompts(config))


def _unknown(config: Config, registry: Registry, key: str, *also: str) -> Iterator[str]:
    """The problem of a name that the registry does not know."""
    try:
        registry.get(get_value(config, key))
    except ValueError as error:
        more = f" (or {', '.join(also)})" if also else ""
        yield f"{given(config, key)}: {error}{more} Fix: set {key} to an allowed name."


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
