"""The estimate of activations beside what PyTorch really keeps."""

import pytest
import torch

from benchmarks.memory import LiveBytes, estimated_peak, update_peak
from benchmarks.published import random_policy, scaled
from siirl.config.activations import Forward, activation_bytes, copy_bytes
from siirl.config.shapes import published_shapes
from siirl.policies.prismatic.policy import PrismaticPolicy

CPU = torch.device("cpu")
TOWER = {"img_size": 112, "patch_size": 16, "class_token": False, "global_pool": "", "depth": 4, "num_heads": 2}
TEXT = scaled(192, 512, 4, 3)["text_config"] | {"vocab_size": 448}
ARCHITECTURES = {
    "one tower": {"use_fused_vision_backbone": False, "timm_model_args": [TOWER | {"embed_dim": 128}]},
    "two towers": {
        "use_fused_vision_backbone": True,
        "timm_model_args": [TOWER | {"embed_dim": 96, "init_values": 0.1}, TOWER | {"embed_dim": 160}],
    },
}


def policy(architecture: str, embodied_type: str, dtype: str, checkpointing: bool) -> PrismaticPolicy:
    config = scaled(192, 512, 4, 3, image_sizes=[112, 112], prompt_suffix_token_id=4, **ARCHITECTURES[architecture])
    config["text_config"] = TEXT | {"pad_token_id": 0}
    return random_policy(config | {"pad_token_id": 0}, embodied_type, dtype, CPU, checkpointing)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_within_15_percent_of_what_is_kept(architecture: str, dtype: str, checkpointing: bool) -> None:
    built = policy(architecture, "openvla-oft", dtype, checkpointing)
    for chunks in (2, 6):
        assert estimated_peak(built, chunks) == pytest.approx(update_peak(built, chunks), rel=0.15)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_openvla_too(checkpointing: bool) -> None:
    built = policy("two towers", "openvla", "bf16", checkpointing)
    assert estimated_peak(built, 4) == pytest.approx(update_peak(built, 4), rel=0.15)


def test_checkpointing_keeps_a_tenth_of_the_published_policy() -> None:
    kept, checkpointed = (activation_bytes(published_shapes(), Forward(8, 1, 40, 56, True, c)) for c in (False, True))
    assert checkpointed < kept / 10


def test_the_copies_are_those_of_matrices_that_multiply() -> None:
    llama = {"language_model.lm_head.weight": [9, 4], "language_model.model.layers.0.mlp.up_proj.weight": [8, 4]}
    vision = {f"vision_backbone.featurizer.blocks.{i}.attn.qkv.weight": [6, 2] for i in range(2)}  # the last is not run
    assert copy_bytes(llama | vision | {"language_model.model.norm.weight": [4]}) == 2 * (8 * 4 + 6 * 2)


def test_live_bytes_count_what_autograd_keeps_and_forget_what_is_freed() -> None:
    x = torch.ones(100, requires_grad=True)
    with LiveBytes() as memory:
        y = (x * x).sin()  # keeps x · x
        assert memory.live == 2 * 400
        loss = y.sum()
        del y
        assert memory.live == 400 + 4
        loss.backward()
        assert memory.live == 4 + 400  # the loss and x's gradient
    assert memory.peak > 2 * 400
