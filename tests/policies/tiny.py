"""A policy folder with random weights that is written and loaded in well under a second; other tests import it."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.lora import add_adapters
from siirl.policies.openvla import OpenVLA
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.openvla_oft_l1 import OpenVLAOFTL1
from siirl.policies.prismatic.loading import Checkpoint
from siirl.training.scratch import initialise, word_tokenizer

INSTRUCTIONS = (
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "pick up the alphabet soup and place it in the basket",
)
WORDS = sorted(
    {*" ".join(INSTRUCTIONS).split(), "in", ":", "what", "action", "should", "robot", "to", "?", "out", "take"}
)
STATISTICS: dict[str, Any] = {
    "libero_spatial_no_noops": {
        "action": {
            "q01": [-0.9, -0.8, -0.7, -0.1, -0.2, -0.3, 0.0],
            "q99": [0.9, 0.85, 0.75, 0.12, 0.22, 0.33, 1.0],
            "mask": [True] * 6 + [False],
        },
        "proprio": {"q01": [-1.0] * 8, "q99": [1.0] * 8},
    }
}
CONFIG: dict[str, Any] = {
    "model_type": "openvla",
    "n_action_bins": 256,
    "action_chunks_len": 8,
    "action_token_len": 7,
    "use_fused_vision_backbone": False,
    "image_sizes": [32],
    "timm_model_args": [
        {
            "img_size": 32,
            "patch_size": 16,
            "embed_dim": 32,
            "depth": 3,
            "num_heads": 2,
            "class_token": False,
            "global_pool": "",
        }
    ],
    "use_proprio": True,
    "proprio_dim": 8,
    "pad_to_multiple_of": 64,
    "pad_token_id": 0,
    "prompt_suffix_token_id": 4,
    "text_config": {
        "model_type": "llama",
        "vocab_size": 64 + 256 + 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "attention_bias": True,
        "initializer_range": 0.07,
        "pad_token_id": 0,
    },
}
OFT_KEYS = {"action_chunks_len", "use_proprio", "proprio_dim"}
HEAD_FILE, PROJECTOR_FILE = "action_head--150000_checkpoint.pt", "proprio_projector--150000_checkpoint.pt"


@cache
def tiny_checkpoint() -> Checkpoint:
    """Config, statistics and tokenizer of the tiny policy: 32² images, width 32, two layers."""
    return Checkpoint(CONFIG, STATISTICS, word_tokenizer(WORDS))


@cache
def tiny_openvla_checkpoint() -> Checkpoint:
    """The same for the autoregressive policy."""
    config = {name: value for name, value in CONFIG.items() if name not in OFT_KEYS}
    return replace(tiny_checkpoint(), config=config)


def tiny_policy(seed: int = 0, num_images: int = 1, dtype: str = "fp32", use_proprio: bool = True) -> OpenVLAOFT:
    """The tiny policy in memory, always with the same weights for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        checkpoint = replace(tiny_checkpoint(), config=CONFIG | {"use_proprio": use_proprio})
        policy = OpenVLAOFT.build(checkpoint, EmbodiedConfig(num_images_in_input=num_images), dtype)
        initialise(policy.model)
        torch.nn.init.normal_(policy.model.language_model.lm_head.weight, std=0.5)  # far from uniform
    return policy


def tiny_openvla(seed: int = 0, dtype: str = "fp32") -> OpenVLA:
    """The tiny autoregressive policy in memory; its likeliest ids are often no actions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = OpenVLA.build(tiny_openvla_checkpoint(), EmbodiedConfig(), dtype)
        torch.nn.init.normal_(policy.model.language_model.model.embed_tokens.weight)
        head = torch.nn.init.normal_(policy.model.language_model.lm_head.weight, std=0.5)
    with torch.no_grad():
        head[: policy.model.first_action_id] *= 1.3
    return policy


def tiny_l1(seed: int = 0, num_images: int = 2, dtype: str = "fp32") -> OpenVLAOFTL1:
    """The tiny policy with a regression head in memory."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        checkpoint = replace(tiny_checkpoint(), config={**CONFIG, "num_images_in_input": num_images})
        policy = OpenVLAOFTL1.build(checkpoint, EmbodiedConfig(num_images_in_input=num_images), dtype)
        initialise(policy.model)
    return policy


def tiny_parts_folder(tmp_path: Path, seed: int = 0) -> Path:
    """A folder as published: nothing of proprioception, chunks or class in its config; the regression head and the
    projector, trained with DDP, beside the weights."""
    policy, folder = tiny_l1(seed), tmp_path / "tiny-parts"
    policy.save(str(folder))
    weights = load_file(folder / "model.safetensors")
    for part, name in (("action_head.", HEAD_FILE), ("proprio_projector.", PROJECTOR_FILE)):
        own = [n for n in weights if n.startswith(part)]
        torch.save({f"module.{n.removeprefix(part)}": weights.pop(n) for n in own}, folder / name)
    save_file(weights, folder / "model.safetensors")
    config = {n: value for n, value in CONFIG.items() if n not in {*OFT_KEYS, "action_token_len"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def tiny_openvla_folder(tmp_path: Path, seed: int = 0) -> Path:
    """A folder for ``embodied_type=openvla``, un-normalisation key libero_spatial, one action of 7 numbers."""
    folder = tmp_path / "tiny-openvla"
    tiny_openvla(seed).save(str(folder))
    return folder


def tiny_policy_folder(tmp_path: Path, seed: int = 0, use_proprio: bool = True) -> Path:
    """A folder for ``actor_rollout_ref.model.path``, un-normalisation key libero_spatial, chunks of 8 × 7."""
    folder = tmp_path / "tiny-openvla-oft"
    tiny_policy(seed, use_proprio=use_proprio).save(str(folder))
    return folder


def tiny_l1_folder(tmp_path: Path, seed: int = 0) -> Path:
    """A folder for ``embodied_type=openvla-oft-l1``, two views, chunks of 8 × 7."""
    folder = tmp_path / "tiny-openvla-oft-l1"
    tiny_l1(seed).save(str(folder))
    return folder


def train_value_head(policy: OpenVLA | OpenVLAOFT, seed: int = 0) -> None:
    """Let the value head of a policy leave its start: an untrained one gives zeros whatever it reads."""
    head = policy.model.value_head
    assert head is not None
    with torch.no_grad():
        head.fc3.weight.normal_(std=0.2, generator=torch.Generator().manual_seed(seed))


def adapt(policy: OpenVLA | OpenVLAOFT, *, trained: bool, **lora: Any) -> None:
    """Give a policy LoRA adapters, of rank 4 on every linear layer unless ``lora`` says otherwise; ``trained`` ones have
    left zero, and change what it does."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        add_adapters(policy.model, ModelConfig(**{"lora_rank": 4, **lora}))
        for name, parameter in policy.model.named_parameters():
            if trained and ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.02)
