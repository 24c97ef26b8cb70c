"""The published architectures, as facts of their ``config.json``; weights are random where a benchmark builds them."""

from typing import Any

import torch
from torch import nn

import siirl.torchvision_shim  # noqa: F401  (before transformers)
from siirl.config.schema import EmbodiedConfig
from siirl.policies.base import POLICIES
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.policy import PrismaticPolicy
from siirl.training.scratch import word_tokenizer

from transformers import VJEPA2Config, VJEPA2Model  # isort: skip

OPENVLA_7B: dict[str, Any] = {
    "model_type": "openvla",
    "n_action_bins": 256,
    "image_sizes": [224, 224],
    "use_fused_vision_backbone": True,
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    "timm_override_act_layers": [None, None],
    "pad_to_multiple_of": 64,
    "pad_token_id": 32000,
    "text_config": {"model_type": "llama", "vocab_size": 32064, "pad_token_id": 32000},
}
"""``openvla/openvla-7b``: DINOv2 ViT-L and SigLIP So400m, Llama 2 7B (Hugging Face's defaults); 7,541,237,184 parameters."""

INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"


def scaled(hidden_size: int, intermediate_size: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    """`OPENVLA_7B` with another Llama; ``other`` replaces entries of the config."""
    text = {"hidden_size": hidden_size, "intermediate_size": intermediate_size, "num_hidden_layers": layers}
    text |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    return {**OPENVLA_7B, **other, "text_config": OPENVLA_7B["text_config"] | text}


def checkpoint_of(config: dict[str, Any]) -> Checkpoint:
    """A policy folder without its weights, that reads `INSTRUCTION`; its statistics mean nothing."""
    words = sorted({*INSTRUCTION.split(), "in", ":", "what", "action", "should", "robot", "take", "to", "?", "out"})
    statistics = {
        "action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]},
        "proprio": {"q01": [-1.0] * 8, "q99": [1.0] * 8},
    }
    return Checkpoint(config, {"libero_spatial": statistics}, word_tokenizer(words))


def random_policy(
    config: dict[str, Any], embodied_type: str, dtype: str, device: torch.device, checkpointing: bool = False
) -> PrismaticPolicy:
    """A policy with random weights, made where it computes."""
    factory: Any = POLICIES.get(embodied_type)
    policy: PrismaticPolicy = factory.build(checkpoint_of(config), EmbodiedConfig(), dtype, device)
    if checkpointing:
        policy.model.enable_gradient_checkpointing()
    return policy


VIT_G = {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22, "mlp_ratio": 48 / 11 + 0.0001}
"""V-JEPA 2's ViT-g: MLPs 6144 wide."""


def random_video_encoder(
    img_size: int, num_frames: int, device: torch.device, shape: dict[str, Any] = VIT_G
) -> nn.Module:
    """A V-JEPA 2 encoder with random weights, float32, made on ``device``; no predictor is ever made."""
    with torch.device("meta"):
        encoder = VJEPA2Model(VJEPA2Config(crop_size=img_size, frames_per_clip=num_frames, **shape)).encoder
    encoder.to_empty(device=device)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.constant_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return encoder
