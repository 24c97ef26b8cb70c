"""Small world models with random weights, and weights by name, as the golden vectors have."""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from siirl.envs.world_model.reward_model import RewardModel
from siirl.envs.world_model.stdit3 import STDiT3
from siirl.envs.world_model.vae import AutoencoderKL

FOLDER = Path(__file__).parents[2] / "golden"
TRANSFORMER: dict[str, Any] = {
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 2,
    "caption_channels": 8,
    "model_max_length": 2,
}
VAE: dict[str, Any] = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
STATISTICS = {"action": {"q01": [-1.0] * 6 + [-2.0], "q99": [1.0] * 6 + [3.0]}}
SIDE = 16
"""Pixels; latents are half."""


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The files called ``name`` in tests/golden: what the ``.json`` says, and the vectors."""
    return json.loads((FOLDER / f"{name}.json").read_text()), load_file(FOLDER / f"{name}.safetensors")


@torch.no_grad()
def fill_by_name(model: nn.Module) -> None:
    """Give the parameters values that are a function of their names, as the transformer's golden vectors have them."""
    for name, parameter in model.named_parameters():
        parameter.copy_(_value(name, parameter, 0.05))


@torch.no_grad()
def fill_state_by_name(model: nn.Module) -> None:
    """The same for a network of convolutions, its statistics included: kernels are scaled by their number of inputs."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(_value(name, tensor, tensor[0].numel() ** -0.5))


def _value(name: str, like: Tensor, otherwise: float) -> Tensor:
    r = torch.randn(like.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if like.ndim == 1:
        return 1 + 0.05 * r if name.endswith(("weight", "running_var")) else 0.02 * r
    return r / like.shape[-1] ** 0.5 if like.ndim == 2 else r * otherwise


def small_parts(seed: int = 0) -> tuple[STDiT3, AutoencoderKL, RewardModel]:
    """A transformer whose temporal blocks are not the identity, an autoencoder and a classifier."""
    torch.manual_seed(seed)
    transformer, vae, reward_model = STDiT3(TRANSFORMER), AutoencoderKL(VAE), RewardModel((4, 8))
    for block in transformer.temporal_blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            nn.init.xavier_uniform_(layer.weight)
    return transformer.eval(), vae.eval(), reward_model.eval()
