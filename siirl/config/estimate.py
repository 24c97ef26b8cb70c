"""A rough estimate of the memory that a run takes, for ``dry_run=true``. Weights are counted, not loaded."""

import math
import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from siirl.config.acting import executed_actions
from siirl.config.activations import FP32, Forward, acting_bytes, activation_bytes, copy_bytes
from siirl.config.environments import VALIDATION, environments
from siirl.config.imagination import WORLD_MODELS, read_sizes, world_model_bytes
from siirl.config.lora import adapter_parameters
from siirl.config.placement import WORKER_ROLES, Placement, place, slots_per_machine, spread
from siirl.config.schema import Config, EmbodiedConfig, EnvConfig
from siirl.config.shapes import Shapes, folder_shapes, published_shapes, published_size
from siirl.config.value_head import policy_shapes, value_head_parameters
from siirl.rewards.base import REWARDS

GIB = 2**30
PROMPT_TOKENS = 40
"""A LIBERO instruction's prompt in Llama's tokens."""
LIBERO_GIB, LIBERO_SMALL_TEXTURES_GIB = 1.9, 1.05
"""Measured resident memory of a LIBERO simulator process, with textures as published and shrunk to 512 pixels."""
MANISKILL_GIB = 0.9
"""Measured resident memory of a ManiSkill simulator process on the CPU, with PickCube; PegInsertionSide takes 1.2."""


@dataclass(frozen=True)
class Row:
    """One consumer of memory: where it lives (each ``slot`` or each slot of some roles, each ``machine``, or the
    ``cluster``), and how much."""

    where: str
    name: str
    gib: float


def memory_estimate(config: Config) -> str:
    """The estimate as text, one line per consumer, grouped by where they live."""
    rows = estimate_rows(config)
    lines = ["memory (estimate, GiB)"]
    for where in dict.fromkeys(row.where for row in rows):
        here = [row for row in rows if row.where == where]
        lines.append(f"  per {where}")
        lines += [f"    {row.name:<54}{row.gib:>9.2f}" for row in here]
        lines += [f"    {'together':<54}{sum(row.gib for row in here):>9.2f}"] if len(here) > 1 else []
    if not folder_shapes(Path(config.actor_rollout_ref.model.path)):
        size = published_size(config.actor_rollout_ref.embodied.embodied_type)
        lines.append(f"  for the published {size} policy: actor_rollout_ref.model.path holds no safetensors")
    for env in environments(config).values():
        if env.env_type in WORLD_MODELS and read_sizes(env.world_model, env.image_size) is None:
            lines.append("  for the published XL/2 world model: env.world_model.path holds none")
    return "\n".join(lines)


def estimate_rows(config: Config) -> list[Row]:
    """Every consumer; the policy's are those of the published one when its folder holds no weights.

    Raises:
        ValueError: a file of weights is damaged, or the placement cannot be read.
    """
    ref, training = config.actor_rollout_ref, not config.trainer.val_only
    placement = used_placement(config)
    shapes = policy_shapes(Path(ref.model.path)) or published_shapes(ref.embodied.embodied_type)
    added = adapter_parameters(shapes, ref.model) + value_head_parameters(config, shapes)
    encoder = _encoder_parameters(ref.embodied) if "embedding" in placement else 0
    ranks, rows = len(placement.get("actor", ())), []
    for where, roles in _kinds(placement).items():
        held = _actor(config, shapes, ranks) if "actor" in roles else {}
        if "rollout" in roles and ("actor" not in roles or ranks > 1):
            half = ref.model.dtype == "bf16"
            held["whole weights for acting" + (", mostly bf16" if half else ", float32")] = (
                acting_bytes(shapes, half) + FP32 * added
            )
        if ref.model.dtype == "bf16" and "actor" in roles:
            held["bf16 copies of the weights in a forward"] = copy_bytes(shapes)
        if "embedding" in roles and encoder:
            held["video encoder, float32"] = encoder * FP32
        rows += [Row(where, name, size / GIB) for name, size in held.items()]
    if training:
        rows.append(_trajectories(config))
    return rows + _world_models(config, placement) + _simulators(config, placement)


def used_placement(config: Config) -> Placement:
    """Where the roles of the shipped workflow live. Raises ValueError when that cannot be read."""
    training = not config.trainer.val_only
    embeds = training and REWARDS.get(config.algorithm.reward).needs_embedding
    return place(config, {"env", "rollout", *(["embedding"] if embeds else []), *(["actor"] if training else [])})


def slot_kind(placement: Placement, slot: int) -> str:
    """What a slot with a node worker is called in the estimate: by its roles, where not all slots have the same."""
    every = {_roles(placement, other) for role in WORKER_ROLES for other in placement.get(role, ())}
    if not _roles(placement, slot):
        return "slot of env alone"
    return "slot" if len(every) == 1 else f"slot of {'+'.join(_roles(placement, slot))}"


def _roles(placement: Placement, slot: int) -> tuple[str, ...]:
    return tuple(role for role in WORKER_ROLES if slot in placement.get(role, ()))


def _kinds(placement: Placement) -> dict[str, set[str]]:
    """The kinds of slots with a node worker, by what they are called, and the roles of each."""
    slots = sorted({slot for role in WORKER_ROLES for slot in placement.get(role, ())})
    return {slot_kind(placement, slot): set(_roles(placement, slot)) for slot in slots}


def parameter_counts(config: Config) -> tuple[int, int, bool]:
    """Parameters of the policy without adapters and value head, those of its adapters, and whether they are of the policy
    folder or, where that holds no weights, of the published policy.

    Raises:
        ValueError: a file of weights is damaged.
    """
    model, embodied = config.actor_rollout_ref.model, config.actor_rollout_ref.embodied
    found = policy_shapes(Path(model.path))
    shapes = found or published_shapes(embodied.embodied_type)
    return _parameters(shapes), adapter_parameters(shapes, model), bool(found)


def _parameters(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _actor(config: Config, shapes: Shapes, ranks: int) -> dict[str, float]:
    """Bytes of one rank of the update."""
    ref = config.actor_rollout_ref
    size, adapters = _parameters(shapes), adapter_parameters(shapes, ref.model)
    head, chunks = value_head_parameters(config, shapes), ref.actor.ppo_micro_batch_size_per_gpu
    trained = (adapters or size) + head
    forward = Forward(
        chunks=chunks,
        views=ref.embodied.num_images_in_input,
        prompt=PROMPT_TOKENS,
        actions=ref.embodied.action_chunks_len * ref.embodied.action_token_len,
        half=ref.model.dtype == "bf16",
        checkpointing=ref.model.enable_gradient_checkpointing,
    )
    shard = f"1/{ranks} of " if ranks > 1 else ""
    return {
        f"{shard}policy weights, float32": FP32 * (size + adapters + head) / ranks,
        f"{shard}gradients, float32": FP32 * trained / ranks,
        f"{shard}AdamW's two moments, float32": 2 * FP32 * trained / ranks,
        f"activations of {chunks} chunks": activation_bytes(shapes, forward),
    } | ({f"{shard}reference weights, float32": FP32 * size / ranks} if ref.ref.path else {})


def _trajectories(config: Config) -> Row:
    """Images of the episodes of a step's generation batches, and of the steps that may be ahead, all of them at full length;
    everything else of them is small."""
    rollout, embodied, env = (
        config.actor_rollout_ref.rollout,
        config.actor_rollout_ref.embodied,
        config.actor_rollout_ref.embodied.env,
    )
    groups = math.ceil(config.data.train_batch_size * config.algorithm.embodied_sampling.oversample_factor)
    groups *= config.algorithm.filter_groups.max_num_gen_batches * (1 + config.trainer.max_staleness)
    frames = math.ceil((env.max_steps or rollout.response_length) / executed_actions(embodied)) + 1
    image = 3 * env.image_size**2 * embodied.num_images_in_input
    name = f"trajectories, at most {groups * rollout.n} episodes"
    return Row("cluster", name, groups * rollout.n * frames * image / GIB)


def _world_models(config: Config, placement: Placement) -> list[Row]:
    """Of each kind of slot with a world model; each rollout worker has one. On the CPU they are in the machine's memory."""
    rows: dict[tuple[str, str], float] = {}
    for env in environments(config).values():
        if env.env_type not in WORLD_MODELS:
            continue
        at = Counter(spread(len(placement["rollout"]), placement["env"]))
        if env.sim_backend == "cpu":
            machines: Counter[int] = Counter()
            for slot, count in at.items():
                machines[slot // slots_per_machine(config)] += count
            held = {"machine": max(machines.values())}
        else:
            held = {slot_kind(placement, slot): count for slot, count in sorted(at.items(), key=lambda item: item[1])}
        for where, count in held.items():
            for name, size in world_model_bytes(env, env.num_envs).items():
                rows[where, f"{count} × {name}" if count > 1 else name] = count * size / GIB
    return [Row(where, name, gib) for (where, name), gib in rows.items()]


def _simulators(config: Config, placement: Placement) -> list[Row]:
    """Of the machine with the most simulators; those of other kinds than were measured are left out."""
    rows = []
    for name, env in environments(config).items():
        each = _simulator_gib(env)
        if each is None:
            continue
        slots = spread(len(placement["rollout"]) * env.num_envs, placement["env"])
        machines = Counter(slot // slots_per_machine(config) for slot in slots)
        most = max(machines.values())
        alike = all(machines[machine] == most for machine in range(config.trainer.nnodes))
        what = f"{most} simulators{' to validate' if name == VALIDATION else ''}"
        rows.append(Row("machine" if alike else "machine with the most simulators", what, most * each))
    return rows


def _simulator_gib(env: EnvConfig) -> float | None:
    """Memory of one simulator process, where it was measured."""
    if env.env_type == "libero":
        small = env.max_texture_size is not None and env.max_texture_size <= 512
        return LIBERO_SMALL_TEXTURES_GIB if small else LIBERO_GIB
    return MANISKILL_GIB if env.env_type == "maniskill" and env.sim_backend == "cpu" else None


def _encoder_parameters(embodied: EmbodiedConfig) -> int:
    """Parameters of the video encoder at the given path; 0 for the pixel encoder or no path.

    Raises:
        ValueError: the file is no checkpoint with an encoder.
    """
    path = Path(embodied.video_embedding_model_path or "")
    if embodied.video_encoder not in ("auto", "vjepa2") or not embodied.video_embedding_model_path:
        return 0
    if path.is_dir():
        return sum(math.prod(shape) for name, shape in folder_shapes(path).items() if name.startswith("encoder."))
    import torch  # here: the config must stay quick to import

    try:
        published = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        return sum(tensor.numel() for tensor in published["encoder"].values())
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a published V-JEPA 2 checkpoint ({error!r}); download it again") from error
