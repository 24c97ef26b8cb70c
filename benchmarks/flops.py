"""Floating point operations that a forward needs, and how many this machine does per second.

A multiplication and an addition count as two. Only matrix products and convolutions count; attention counts as the full square
of queries and keys, as in `torch.utils.flop_counter`, to which a test holds these numbers.
"""

import time

import torch
from torch import nn

from siirl.policies.prismatic.model import PrismaticVLA

MATMUL_SIZES = {"cuda": (8192,), "cpu": (1024, 2048)}
"""Sides of the square matrices by which `matmul_rate` knows a machine."""


def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Operations per second of this machine's matrix product at ``dtype``: its best size, its best repeat."""
    best = 0.0
    for size in MATMUL_SIZES[device.type]:
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for _ in range(repeats):
            synchronise(device)
            began = time.perf_counter()
            a @ b
            synchronise(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forward_flops(model: PrismaticVLA, prompt: int, views: int = 1, head_rows: int | None = None) -> int:
    """Of all logits of the action tokens for one row, from images and ``prompt`` tokens (BOS and suffix included).

    The same for OpenVLA-OFT's one forward, `PrismaticCausal.forward` and its decoding with a cache: all see the same tokens.

    Args:
        head_rows: ids of which logits are computed; None: the bins.
    """
    towers = model.vision_backbone.featurizers
    patches = views * towers[0].patch_embed.num_patches
    vision = views * sum(tower_flops(tower) for tower in towers) + 2 * patches * linear_weights(model.projector)
    actions = model.num_action_tokens
    words, spans = [prompt + patches], [prompt + patches]
    if hasattr(model, "generate"):  # one after the other: the last action token is never fed back
        words += [1] * (actions - 1)
        spans += [spans[0] + i + 1 for i in range(actions - 1)]
    else:
        extra = actions + 1
        if (proprio := getattr(model, "proprio_projector", None)) is not None:
            extra += 1
            vision += 2 * linear_weights(proprio)
        words, spans = [words[0] + extra], [spans[0] + extra]
    llama = model.language_model.model
    width = llama.config.num_attention_heads * llama.layers[0].self_attn.head_dim
    scores = sum(4 * queries * keys * width for queries, keys in zip(words, spans, strict=True))
    layers = len(llama.layers) * (2 * sum(words) * linear_weights(llama.layers[0]) + scores)
    return vision + layers + 2 * actions * (head_rows or model.num_bins) * llama.config.hidden_size


def tower_flops(tower: nn.Module) -> int:
    """Of one image's features from the last block but one of a timm `VisionTransformer`."""
    patches = tower.patch_embed.num_patches
    tokens = patches + tower.num_prefix_tokens
    block = 2 * tokens * linear_weights(tower.blocks[0]) + 4 * tokens**2 * tower.embed_dim
    return 2 * patches * tower.patch_embed.proj.weight.numel() + (len(tower.blocks) - 1) * block


def video_flops(encoder: nn.Module) -> int:
    """Of one video's embedding by V-JEPA 2."""
    config, kernel = encoder.config, encoder.embeddings.patch_embeddings.proj.weight
    tokens = (config.frames_per_clip // config.tubelet_size) * (config.crop_size // config.patch_size) ** 2
    layer = 2 * tokens * linear_weights(encoder.layer[0]) + 4 * tokens**2 * config.hidden_size
    return 2 * tokens * kernel.numel() + len(encoder.layer) * layer


def linear_weights(module: nn.Module) -> int:
    """Elements of the matrices of all linear layers within."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
