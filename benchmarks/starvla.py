"""StarVLA's QwenOFT for the benchmark of policies: random weights, counted operations, and the forward as it is published."""

import copy
from typing import Any

import torch
from torch import Tensor

from benchmarks.flops import linear_weights
from siirl.policies.base import PolicyInputs
from siirl.policies.gaussian import GaussianSettings, add_log_std
from siirl.policies.starvla import StarVLA
from siirl.policies.starvla.network import StarVLANetwork
from siirl.training.scratch_starvla import new_starvla

WORDS = ["user", "assistant", "Please", "predict", "the", "next", "robot", "actions", "action"]
STATISTICS = {"action": {"min": [-1.0] * 7, "max": [1.0] * 7, "mask": [True] * 6 + [False]}}


def config(text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    """``config.json`` of a QwenOFT with a Qwen2.5-VL of these sizes, one view of 224²."""
    head_dim = text["hidden_size"] // text["num_attention_heads"]
    section = [head_dim // 8, head_dim * 3 // 16, head_dim * 3 // 16]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section}
    return {
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": True,
        "num_images_in_input": 1,
        "starvla": {
            "framework": {"name": "QwenOFT", "action_model": {"action_dim": 7, "action_horizon": 8}},
            "vla_data": {"obs_image_size": [224, 224]},
        },
        "text_config": {"vocab_size": 151936, "max_position_embeddings": 4096, "rope_parameters": rope, **text},
        "vision_config": {
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": text["hidden_size"],
            **vision,
        },
    }


QWEN2_5_VL_3B = config(
    {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
    {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
)
"""``Qwen/Qwen2.5-VL-3B-Instruct``, as in ``StarVLA/Qwen2.5-VL-OFT-LIBERO-4in1``."""
TINY = config(
    {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 512,
    },
    {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "fullatt_block_indexes": [1]},
)


def random_starvla(config: dict[str, Any], dtype: str, device: torch.device, checkpointing: bool = False) -> StarVLA:
    """A policy with random weights, made where it computes."""
    with torch.device(device):
        policy = new_starvla(config, WORDS, "libero_spatial", STATISTICS, dtype)
    add_log_std(policy.model, GaussianSettings(0.1, 0.02, 0.5, per_dimension=True), policy.action_dim)
    if checkpointing:
        policy.model.enable_gradient_checkpointing()
    return policy


def starvla_flops(network: StarVLANetwork, prompt: int, patches: int = 256, views: int = 1) -> int:
    """Operations of one row: ``prompt`` tokens without those of images, ``patches`` of each view. Attention within windows
    counts as what it is, within language layers as the full square."""
    model: Any = network.qwen_vl_interface.model.model
    vision, merged = model.visual, model.visual.spatial_merge_size**2
    width, blocks = vision.config.hidden_size, vision.blocks
    window = (vision.window_size // vision.patch_size) ** 2
    spans = [patches if i in vision.fullatt_block_indexes else min(window, patches) for i in range(len(blocks))]
    image = 2 * patches * vision.patch_embed.proj.weight.numel() + 2 * (patches // merged) * linear_weights(
        vision.merger
    )
    image += sum(
        2 * patches * linear_weights(block) + 4 * patches * span * width
        for block, span in zip(blocks, spans, strict=True)
    )
    text, tokens = model.language_model, prompt + views * patches // merged
    heads = text.config.num_attention_heads * text.layers[0].self_attn.head_dim
    layer = 2 * tokens * linear_weights(text.layers[0]) + 4 * tokens**2 * heads
    return (
        views * image
        + len(text.layers) * layer
        + 2 * network.chunk_len * linear_weights(network.get_submodule("action_model"))
    )


class PlainStarVLA:
    """The published forward: transformers' whole model, logits and hidden states of every token and layer, weights in the
    dtype of computation; prompts must be of one length."""

    def __init__(self, policy: StarVLA, dtype: torch.dtype) -> None:
        self.policy = policy
        self.model = policy.model if dtype == torch.float32 else copy.deepcopy(policy.model).to(dtype)
        self.head = copy.deepcopy(policy.model.get_submodule("action_model"))

    @torch.no_grad()
    def act(self, inputs: PolicyInputs) -> Tensor:
        """Drawn normalised actions [B, T, D] on the CPU."""
        network, ids = self.model, inputs["input_ids"]
        pixel_values, grid = self.policy.framework.images.patches(list(inputs["images"].flatten(0, 1)))
        whole: Any = network.qwen_vl_interface.model
        hidden = whole(
            input_ids=ids,
            attention_mask=inputs["attention_mask"].long(),
            pixel_values=pixel_values,
            image_grid_thw=grid,
            mm_token_type_ids=(ids == network.image_token).int(),
            output_hidden_states=True,
        ).hidden_states[-1]
        mean = self.head(hidden[ids == network.action_token].view(len(ids), network.chunk_len, -1).float())
        return torch.normal(mean, 0.1).cpu()
