"""A rough estimate of the memory that a run takes, for ``dry_run=true``. Weights are counted, not loaded."""

import math
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

from siirl.config.activations import FP32, Forward, activation_bytes, copy_bytes
from siirl.config.lora import adapter_parameters
from siirl.config.schema import Config, EmbodiedConfig, EnvConfig
from siirl.config.shapes import Shapes, folder_shapes, published_shapes
from siirl.rewards.base import REWARDS

GIB = 2**30
PROMPT_TOKENS = 40
"""A LIBERO instruction's prompt in Llama's tokens."""
LIBERO_GIB, LIBERO_SMALL_TEXTURES_GIB = 1.9, 1.05
"""Measured resident memory of a simulator process, with textures as published and shrunk to 512 pixels."""


@dataclass(frozen=True)
class Row:
    """One consumer of memory: where it lives (each ``slot``, each ``machine``, or the ``cluster``), and how much."""

    where: str
    name: str
    gib: float


def memory_estimate(config: Config) -> str:
    """The estimate as text, one line per consumer."""
    rows = estimate_rows(config)
    lines = ["memory (estimate, GiB)"]
    lines += [f"  {f'{row.name}, per {row.where}':<58}{row.gib:>9.2f}" for row in rows]
    if not folder_shapes(Path(config.actor_rollout_ref.model.path)):
        lines.append("  for the published 7B policy: actor_rollout_ref.model.path holds no safetensors")
    return "\n".join(lines)


def estimate_rows(config: Config) -> list[Row]:
    """Every consumer; the policy's are those of the published 7B when its folder holds no weights.

    Raises:
        ValueError: a file of weights is damaged.
    """
    embodied = config.actor_rollout_ref.embodied
    rows = _policy_rows(config, folder_shapes(Path(config.actor_rollout_ref.model.path)) or published_shapes())
    simulators = _simulators(embodied.env, max(1, config.trainer.n_gpus_per_node))
    if config.trainer.val_only:
        return rows + simulators
    if REWARDS.get(config.algorithm.reward).needs_embedding and (count := _encoder_parameters(embodied)):
        rows.append(Row("slot", "video encoder, float32", count * FP32 / GIB))
    return [*rows, _trajectories(config), *simulators]


def _policy_rows(config: Config, shapes: Shapes) -> list[Row]:
    ref, trainer = config.actor_rollout_ref, config.trainer
    ranks = 1 if trainer.val_only else trainer.nnodes * max(1, trainer.n_gpus_per_node)  # only training shards
    size = sum(math.prod(shape) for shape in shapes.values()) / GIB
    adapters = adapter_parameters(shapes, ref.model) / GIB
    trained = adapters or size
    batch = ref.actor.ppo_micro_batch_size_per_gpu
    half = ref.model.dtype == "bf16"
    forward = Forward(
        chunks=batch,
        views=ref.embodied.num_images_in_input,
        prompt=PROMPT_TOKENS,
        actions=ref.embodied.action_chunks_len * ref.embodied.action_token_len,
        half=half,
        checkpointing=ref.model.enable_gradient_checkpointing,
    )
    shard = f"1/{ranks} of " if ranks > 1 else ""
    rows = [Row("slot", f"{shard}policy weights, float32", FP32 * (size + adapters) / ranks)]
    if not trainer.val_only:
        rows += [
            Row("slot", f"{shard}gradients, float32", FP32 * trained / ranks),
            Row("slot", f"{shard}AdamW's two moments, float32", 2 * FP32 * trained / ranks),
            Row("slot", f"activations of {batch} chunks", activation_bytes(shapes, forward) / GIB),
        ]
    if ranks > 1:
        rows.append(Row("slot", "whole weights for acting, float32", FP32 * size))
    if half:
        rows.append(Row("slot", "bf16 copies of the weights in a forward", copy_bytes(shapes) / GIB))
    return rows


def _trajectories(config: Config) -> Row:
    """Images of the episodes of a generation batch, all of them at full length; everything else of them is small."""
    rollout, embodied, env = (
        config.actor_rollout_ref.rollout,
        config.actor_rollout_ref.embodied,
        config.actor_rollout_ref.embodied.env,
    )
    groups = math.ceil(config.data.train_batch_size * config.algorithm.embodied_sampling.oversample_factor)
    groups *= config.algorithm.filter_groups.max_num_gen_batches
    frames = math.ceil((env.max_steps or rollout.response_length) / embodied.action_chunks_len) + 1
    image = 3 * env.image_size**2 * embodied.num_images_in_input
    name = f"trajectories, at most {groups * rollout.n} episodes"
    return Row("cluster", name, groups * rollout.n * frames * image / GIB)


def _simulators(env: EnvConfig, slots: int) -> list[Row]:
    if env.env_type != "libero":
        return []
    small = env.max_texture_size is not None and env.max_texture_size <= 512
    each = LIBERO_SMALL_TEXTURES_GIB if small else LIBERO_GIB
    return [Row("machine", f"{slots * env.num_envs} simulators", slots * env.num_envs * each)]


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
    if not zipfile.is_zipfile(path):
        return path.stat().st_size // FP32
    import torch  # here: the config must stay quick to import

    try:
        published = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        return sum(tensor.numel() for tensor in published["encoder"].values())
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a published V-JEPA 2 checkpoint ({error!r}); download it again") from error
