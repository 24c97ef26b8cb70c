"""A policy folder with random weights that loads in well under a second; other tests import it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from siirl.config.schema import EmbodiedConfig
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.small import initialise_from_scratch, small_config, word_tokenizer

INSTRUCTIONS = (
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "pick up the alphabet soup and place it in the basket",
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


@cache
def tiny_checkpoint() -> Checkpoint:
    """Config, statistics and tokenizer of the tiny policy: 32² images, width 32, two layers."""
    tokenizer = word_tokenizer(INSTRUCTIONS)
    config = small_config(
        tokenizer,
        vision_width=32,
        vision_depth=3,
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        image_size=32,
    )
    return Checkpoint(config, STATISTICS, tokenizer)


def tiny_policy(seed: int = 0, num_images: int = 1, dtype: str = "fp32") -> OpenVLAOFT:
    """The tiny policy in memory, always with the same weights for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = OpenVLAOFT.build(tiny_checkpoint(), EmbodiedConfig(num_images_in_input=num_images), dtype)
        initialise_from_scratch(policy.model)
    return policy


def tiny_policy_folder(tmp_path: Path, seed: int = 0) -> Path:
    """A folder for ``actor_rollout_ref.model.path``, un-normalisation key libero_spatial, chunks of 8 × 7."""
    folder = tmp_path / "tiny-openvla-oft"
    tiny_policy(seed).save(str(folder))
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Change top-level entries of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
