"""Names and shapes of a policy's parameters without the policy: from a folder's headers, or of the published 7B."""

import json
import struct
from pathlib import Path

Shapes = dict[str, list[int]]
"""Parameter name → shape."""


def folder_shapes(folder: Path) -> Shapes:
    """Of every safetensors file in a folder; empty when there is none.

    Raises:
        ValueError: a file of weights is damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    return {name: shape for file in files for name, shape in read_shapes(file).items()}


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


def published_shapes() -> Shapes:
    """The matrices of OpenVLA-7B and OpenVLA-OFT-7B (Kim et al. 2024, 2025): DINOv2 ViT-L, SigLIP So400m and Llama 2 7B."""
    hidden, inner, vision = 4096, 11008, 1024 + 1152
    projections = {"fc1": [4 * vision, vision], "fc2": [hidden, 4 * vision], "fc3": [hidden, hidden]}
    shapes = {f"projector.{name}.weight": shape for name, shape in projections.items()}
    shapes |= _tower("vision_backbone.featurizer", 1024, 4096, 24, layer_scale=True)
    shapes |= _tower("vision_backbone.fused_featurizer", 1152, 4304, 27, layer_scale=False)
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        shapes[name] = [32064, hidden]
    for layer in range(32):
        block = {f"self_attn.{name}_proj": [hidden, hidden] for name in "qkvo"}
        block |= {"mlp.gate_proj": [inner, hidden], "mlp.up_proj": [inner, hidden], "mlp.down_proj": [hidden, inner]}
        shapes |= {f"language_model.model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes


def _tower(prefix: str, width: int, inner: int, depth: int, layer_scale: bool) -> Shapes:
    """A vision transformer of 224² pixels in patches of 14²."""
    shapes = {f"{prefix}.pos_embed": [1, 256, width], f"{prefix}.patch_embed.proj.weight": [width, 3, 14, 14]}
    for i in range(depth):
        block = {"attn.qkv": [3 * width, width], "attn.proj": [width, width]}
        block |= {"mlp.fc1": [inner, width], "mlp.fc2": [width, inner]}
        shapes |= {f"{prefix}.blocks.{i}.{name}.weight": shape for name, shape in block.items()}
        if layer_scale:
            shapes |= {f"{prefix}.blocks.{i}.{name}.scale_factor": [width] for name in ("ls1", "ls2")}
    return shapes
