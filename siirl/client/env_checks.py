"""What is wrong with the environments of a config: their settings, tasks, cameras and lengths, and what this machine lacks."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from siirl.config.acting import executed_actions
from siirl.config.checks import EMBODIED, ENV, check_max_steps, most_held_out
from siirl.config.environments import REAL, TRAINING, VAL_ENV, declared, environments, group_share, seen_by, told_of
from siirl.config.keys import KEYS, get_value, given, refuse
from siirl.config.problems import show
from siirl.config.schema import Config, EnvConfig, WorldModelConfig
from siirl.data.manifest import build_prompts
from siirl.envs.base import ENVS, EnvFactory, Task
from siirl.policies.prismatic.actions import NO_NOOPS
from siirl.policies.prismatic.parts import PROPRIO_PROJECTOR, find_parts

ENV_TYPE = f"{ENV}.env_type"
COMPILE_SECONDS = 600
"""What compiling a world model may take; a chunk that comes later than `env.step_timeout` counts as a simulator that hangs."""


def environment_problems(config: Config) -> tuple[list[str], list[Task]]:
    """What is wrong with each environment that the run needs, one line each, and the tasks of all of them."""
    problems = list(_check_unused(config))
    tasks: list[Task] = []
    for name in environments(config):
        alone = seen_by(config, name)
        found, its = _problems(alone, group_share(config, name))
        problems += [told_of(config, name, line) for line in found]
        tasks += its
    return list(dict.fromkeys(problems)), tasks


def _problems(config: Config, share: float) -> tuple[list[str], list[Task]]:
    """Those of the one environment of ``config``, where ``share`` of each training step's groups are rolled out."""
    env = config.actor_rollout_ref.embodied.env
    factory = ENVS.get(env.env_type)
    try:
        tasks = factory.tasks(env)
        checks = (
            _check_slots(config, factory),
            _check_simulator(config, factory),
            _check_lengths(config, factory),
            _check_prompts(config, factory, tasks, share),
            _check_statistics(config, factory),
            _check_imagined(config, factory),
        )
        return [line for check in checks for line in check], tasks
    except ValueError as error:
        return [f"{given(config, f'{ENV}.env_name')}, {given(config, f'{ENV}.task_ids')}: {error}"], []


def _check_slots(config: Config, factory: EnvFactory) -> Iterator[str]:
    """Without Ray, one process holds every simulator slot."""
    most = factory.max_slots_per_process(config.actor_rollout_ref.embodied.env)
    if config.trainer.backend == "inline" and config.actor_rollout_ref.embodied.env.num_envs > most:
        key = f"{ENV}.num_envs"
        allowed = (
            f"at most {most} with trainer.backend=inline: a process holds no more slots of {given(config, ENV_TYPE)}"
        )
        yield refuse(config, key, allowed, f"{key}={most} or trainer.backend=ray")


def _check_unused(config: Config) -> Iterator[str]:
    """Keys that none of the environments reads; that of training counts also where none is trained."""
    envs = declared(config)
    factories = [ENVS.get(env.env_type) for env in envs.values()]
    unused = set.intersection(*(set(factory.unused_keys) for factory in factories))
    if not any(factory.imagined for factory in factories):
        unused |= {f"world_model.{field.name}" for field in fields(WorldModelConfig)}
    kinds = " and ".join(
        f"{ENV if name == TRAINING else VAL_ENV}.env_type={env.env_type}" for name, env in envs.items()
    )
    for name in sorted(unused):
        key = f"{ENV}.{name}"
        default = show(KEYS[key].default)
        if get_value(config, key) != KEYS[key].default:
            yield refuse(config, key, f"{default} with {kinds}, which would ignore it", f"{key}={default}")


def _check_simulator(config: Config, factory: EnvFactory) -> Iterator[str]:
    """Cameras that there are not, and what this machine lacks if it is the only one."""
    env, kind = config.actor_rollout_ref.embodied.env, given(config, ENV_TYPE)
    key = f"{EMBODIED}.num_images_in_input"
    if get_value(config, key) > 1 and not factory.has_wrist_camera(env):
        why = f"the robot of {given(config, f'{ENV}.env_name')} has no camera on its wrist"
        why = f"{kind} imagines the main camera alone, and no wrist's" if factory.imagined else why
        yield refuse(config, key, f"1: {why}", f"{key}=1")
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


def _check_prompts(config: Config, factory: EnvFactory, tasks: list[Task], share: float) -> Iterator[str]:
    """The trials must exist, and be enough for a generation batch without repetition."""
    env = config.actor_rollout_ref.embodied.env
    key = f"{ENV}.num_trials_per_task"
    if not tasks or env.num_holdout_trials > most_held_out(config):
        return  # reported by siirl.config.checks
    trials = min(task.num_trials for task in tasks)
    if env.num_trials_per_task > trials:
        yield refuse(config, key, f"at most {trials}, the trials that {env.env_name} has", f"{key}={trials}")
        return
    available = len(build_prompts(config, tasks, factory.default_max_steps(env))[0])
    wanted = math.ceil(share * config.data.train_batch_size * config.algorithm.embodied_sampling.oversample_factor)
    if wanted > available:
        factor = given(config, "algorithm.embodied_sampling.oversample_factor")
        source = f"{len(tasks)} tasks × ({given(config, key)} − {given(config, f'{ENV}.num_holdout_trials')})"
        part = "" if share == 1 else f", of which {REAL} leaves {wanted} prompts to {env.env_type},"
        allowed = f"a batch (times {factor}){part} of at most {available}, the training prompts there are: {source}"
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


def _check_imagined(config: Config, factory: EnvFactory) -> Iterator[str]:
    """A world model takes chunks of the length that it was trained with, and knows no proprioception."""
    if not factory.imagined:
        return
    kind = given(config, ENV_TYPE)
    key = f"{ENV}.world_model.path"
    if get_value(config, key) is None and not config.dry_run:
        allowed = f"a folder with {kind}: as published, or as siirl.client.train_world_model writes it"
        yield refuse(config, key, allowed, f"{key}=<folder> (docs/world_model.md)")
    yield from _check_chunk(config)
    yield from _check_speed(config)
    key = "actor_rollout_ref.model.path"
    if _sees_states(Path(get_value(config, key))):
        allowed = f"a policy without use_proprio with {kind}: a world model imagines pictures, and no proprioception"
        yield refuse(config, key, allowed, "train a policy that sees pictures alone (docs/world_model.md), and name it")


def _check_chunk(config: Config) -> Iterator[str]:
    """As many actions as are imagined at once are predicted, and all of them executed."""
    embodied, chunk = config.actor_rollout_ref.embodied, f"{ENV}.world_model.chunk"
    imagined, key = embodied.env.world_model.chunk, f"{EMBODIED}.action_chunks_len"
    allowed = f"{imagined} with {given(config, chunk)}: that many actions are imagined at once"
    if embodied.action_chunks_len != imagined:
        yield refuse(config, key, allowed, f"{key}={imagined}, with a policy of such chunks")
    elif executed_actions(embodied) != imagined:
        key = f"{EMBODIED}.num_executed_actions"
        yield refuse(config, key, allowed, f"{key}=null")


def _check_speed(config: Config) -> Iterator[str]:
    """What a world model's device, compiler and slots ask for."""
    env, key = config.actor_rollout_ref.embodied.env, f"{ENV}.world_model.offload"
    if env.world_model.offload and env.sim_backend == "cpu":
        allowed = f"false with {given(config, f'{ENV}.sim_backend')}: there is no accelerator to offload from"
        yield refuse(config, key, allowed, f"{key}=false")
    key = f"{ENV}.world_model.cpu_threads"
    if env.world_model.cpu_threads is not None and env.sim_backend == "gpu":
        allowed = f"null with {given(config, f'{ENV}.sim_backend')}: no CPU thread imagines"
        yield refuse(config, key, allowed, f"{key}=null")
    key, compiled = f"{ENV}.step_timeout", f"{ENV}.world_model.use_torch_compile"
    if env.world_model.use_torch_compile and env.step_timeout < COMPILE_SECONDS and config.trainer.backend == "ray":
        allowed = f"at least {COMPILE_SECONDS} with {given(config, compiled)}: the first chunks wait for the compiler"
        yield refuse(config, key, allowed, f"{key}={COMPILE_SECONDS}, or {compiled}=false")
    if config.trainer.deterministic and config.trainer.backend == "ray" and env.world_model.batch_size != 1:
        key = f"{ENV}.world_model.batch_size"
        allowed = "1 with trainer.deterministic=true: which slots are imagined together is a matter of timing"
        yield refuse(config, key, allowed, f"{key}=1, or trainer.backend=inline")


def _sees_states(folder: Path) -> bool:
    """Whether the policy in a folder that can be read takes proprioception; what is wrong with others is told elsewhere."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return bool(config.get("use_proprio", False)) or PROPRIO_PROJECTOR in find_parts(folder)
    except (OSError, ValueError, AttributeError):
        return False


def without_unused(env: EnvConfig) -> EnvConfig:
    """``env`` with the defaults of what its environment does not read, where there is such an environment."""
    if env.env_type not in ENVS.names():
        return env
    factory, defaults = ENVS.get(env.env_type), EnvConfig()
    unused = set(factory.unused_keys) | (set() if factory.imagined else {"world_model"})
    return replace(env, **{name: getattr(defaults, name) for name in unused})
