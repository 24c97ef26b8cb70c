"""Names and shapes of a policy's parameters without the policy: from a folder's headers, or of the published ones."""

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


def published_size(embodied_type: str) -> str:
    """What the published policies of a class are called by their size."""
    return "3B" if embodied_type == "starvla" else "7B"


def published_shapes(embodied_type: str = "openvla-oft") -> Shapes:
    """The matrices of OpenVLA-7B and OpenVLA-OFT-7B (Kim et al. 2024, 2025): DINOv2 ViT-L, SigLIP So400m and Llama 2 7B; of
    ``starvla``, see `_qwen_oft`."""
    if embodied_type == "starvla":
        return _qwen_oft()
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


def _qwen_oft() -> Shapes:
    """The matrices of QwenOFT on Qwen2.5-VL-3B (Bai et al. 2025, *Qwen2.5-VL Technical Report*), whose output head is its
    embedding."""
    hidden, inner, key_value, vision, vision_inner = 2048, 11008, 256, 1280, 3420
    model, wide = "qwen_vl_interface.model.model", 2 * hidden
    shapes = {
        f"{model}.visual.patch_embed.proj.weight": [vision, 3, 2, 14, 14],
        f"{model}.visual.merger.mlp.0.weight": [4 * vision, 4 * vision],
        f"{model}.visual.merger.mlp.2.weight": [hidden, 4 * vision],
        f"{model}.language_model.embed_tokens.weight": [151936, hidden],
        "action_model.model.fc1.weight": [wide, hidden],
        "action_model.model.fc2.weight": [7, wide],
    }
    for number in range(2):
        shapes[f"action_model.model.mlp_resnet_blocks.{number}.ffn.1.weight"] = [wide, wide]
    for layer in range(36):
        block = {"self_attn.q_proj": [hidden, hidden], "self_attn.o_proj": [hidden, hidden]}
        block |= {f"self_attn.{name}_proj": [key_value, hidden] for name in "kv"}
        shapes |= _gated(f"{model}.language_model.layers.{layer}", block, hidden, inner)
    for layer in range(32):
        block = {"attn.qkv": [3 * vision, vision], "attn.proj": [vision, vision]}
        shapes |= _gated(f"{model}.visual.blocks.{layer}", block, vision, vision_inner)
    return shapes


def _gated(prefix: str, block: Shapes, width: int, inner: int) -> Shapes:
    """A block's matrices, with those of its gated MLP."""
    mlp = {"mlp.gate_proj": [inner, width], "mlp.up_proj": [inner, width], "mlp.down_proj": [width, inner]}
    return {f"{prefix}.{name}.weight": shape for name, shape in (block | mlp).items()}


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
