"""A rough estimate of the memory that a run takes, for ``dry_run=true``. Weights are counted, not loaded."""

import json
import math
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from siirl.config.lora import adapter_parameters
from siirl.config.schema import Config, EmbodiedConfig, EnvConfig
from siirl.rewards.base import REWARDS

Shapes = dict[str, list[int]]
"""Parameter name → shape."""

GIB = 2**30
FP32, BF16 = 4, 2
TOKENS_PER_VIEW, PROMPT_TOKENS = 256, 40
"""Typical of the published OpenVLA policies: 224² pixels in patches of 14², and a LIBERO instruction's prompt."""
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
    if not _weight_files(Path(config.actor_rollout_ref.model.path)):
        lines.append("  the policy is not counted: actor_rollout_ref.model.path holds no safetensors")
    return "\n".join(lines)


def estimate_rows(config: Config) -> list[Row]:
    """Every consumer that can be estimated; the policy's rows are missing when its folder holds no weights.

    Raises:
        ValueError: a file of weights is damaged.
    """
    embodied = config.actor_rollout_ref.embodied
    rows = []
    if files := _weight_files(Path(config.actor_rollout_ref.model.path)):
        rows += _policy_rows(config, {name: shape for file in files for name, shape in read_shapes(file).items()})
    if REWARDS.get(config.algorithm.reward).needs_embedding and (count := _encoder_parameters(embodied)):
        rows.append(Row("slot", "video encoder, float32", count * FP32 / GIB))
    return [*rows, _trajectories(config), *_simulators(embodied.env, max(1, config.trainer.n_gpus_per_node))]


def read_shapes(file: Path) -> Shapes:
    """Shapes of a safetensors file, from its header: eight bytes of length, then JSON.

    Raises:
        ValueError: not a safetensors file.
    """
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, file.stat().st_size)))
        return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a safetensors file ({error}); download it again") from error


def activations(shapes: Shapes, tokens: int, checkpointing: bool) -> int:
    """Bytes of one forward over ``tokens`` in bf16: every matrix of a block keeps its input and its output.

    For a Llama block this comes to about 38 bytes per token and hidden unit; Korthikanti et al. (2022), *Reducing
    Activation Recomputation in Large Transformer Models*, eq. 2, has 34 without the attention scores. With
    checkpointing only the input of each block stays, and one block at a time is whole.
    """
    blocks: dict[str, list[list[int]]] = {}
    for name, shape in shapes.items():
        if len(shape) == 2 and (block := re.match(r".*?\.\d+\.", name)):
            blocks.setdefault(block.group(), []).append(shape)
    whole = [sum(rows + columns for rows, columns in matrices) for matrices in blocks.values()]
    if checkpointing and whole:
        inputs = sum(min(columns for _, columns in matrices) for matrices in blocks.values())
        return tokens * BF16 * (max(whole) + inputs)
    return tokens * BF16 * sum(whole)


def _policy_rows(config: Config, shapes: Shapes) -> list[Row]:
    ref, trainer = config.actor_rollout_ref, config.trainer
    ranks = trainer.nnodes * max(1, trainer.n_gpus_per_node)
    size = sum(math.prod(shape) for shape in shapes.values()) / GIB
    adapters = adapter_parameters(shapes, ref.model) / GIB
    trained = adapters or size
    tokens = ref.embodied.num_images_in_input * TOKENS_PER_VIEW + PROMPT_TOKENS
    tokens += ref.embodied.action_chunks_len * ref.embodied.action_token_len
    batch = ref.actor.ppo_micro_batch_size_per_gpu
    active = activations(shapes, tokens * batch, ref.model.enable_gradient_checkpointing)
    shard = f"1/{ranks} of " if ranks > 1 else ""
    rows = [Row("slot", f"{shard}policy weights, float32", FP32 * (size + adapters) / ranks)]
    if not trainer.val_only:
        rows += [
            Row("slot", f"{shard}gradients, float32", FP32 * trained / ranks),
            Row("slot", f"{shard}AdamW's two moments, float32", 2 * FP32 * trained / ranks),
            Row("slot", f"activations of {batch} chunks", active * (1 if ref.model.dtype == "bf16" else 2) / GIB),
        ]
    if ranks > 1:
        rows.append(Row("slot", "whole weights for acting, float32", FP32 * size))
    if ref.model.dtype == "bf16":
        rows.append(Row("slot", "bf16 copies of the weights in a forward", BF16 * size))
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
        shapes = [s for file in _weight_files(path) for n, s in read_shapes(file).items() if n.startswith("encoder.")]
        return sum(math.prod(shape) for shape in shapes)
    if not zipfile.is_zipfile(path):
        return path.stat().st_size // FP32
    import torch  # here: the config must stay quick to import

    try:
        published = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        return sum(tensor.numel() for tensor in published["encoder"].values())
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a published V-JEPA 2 checkpoint ({error!r}); download it again") from error


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
