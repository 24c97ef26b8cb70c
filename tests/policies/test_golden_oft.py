"""OpenVLA-OFT against vectors of the published implementation, with weights addressed by the published names."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from siirl.config.schema import EmbodiedConfig
from siirl.policies.base import Sampling
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.parallel import PrismaticOFT

GOLDEN = Path(__file__).parents[1] / "golden"
SPEC: dict[str, Any] = json.loads((GOLDEN / "openvla_oft_small.json").read_text())
VECTORS = load_file(GOLDEN / "openvla_oft_small.safetensors")
CASES = range(len(SPEC["cases"]))


@torch.no_grad()
def fill_by_name(model: nn.Module) -> None:
    """The golden weights: a function of each parameter's name."""
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        r = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1 and name.endswith("weight"):
            r = 1 + 0.05 * r
        elif name.endswith("scale_factor"):
            r = 0.1 + 0.01 * r
        elif parameter.dim() == 1:
            r = 0.02 * r
        elif parameter.dim() == 2:
            r = r * 1.5 / parameter.shape[-1] ** 0.5
        else:
            r = 0.03 * r
        parameter.copy_(r)


@pytest.fixture(scope="module")
def policy() -> OpenVLAOFT:
    with torch.device("meta"):
        model = PrismaticOFT(SPEC["config"], 56)
    model.to_empty(device="cpu")
    model.restore_buffers(torch.device("cpu"))
    fill_by_name(model)
    embodied = EmbodiedConfig(unnorm_key="libero_goal")
    return OpenVLAOFT(model, Checkpoint(SPEC["config"], SPEC["config"]["norm_stats"]), embodied, "fp32")


def case_inputs(case: int) -> tuple[Tensor, Tensor]:
    """Prompt [1, L] and normalised pixels [1, 6, 224, 224]."""
    ids = VECTORS[f"case{case}.input_ids"]
    generator = torch.Generator().manual_seed(int(VECTORS[f"case{case}.pixel_seed"]))
    torch.randint(3, 31000, ids.shape, generator=generator)  # drawn first where the vectors were made
    return ids, torch.randn(1, 6 * SPEC["num_images"], 224, 224, generator=generator)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_parameter_names_shapes_and_order_are_the_published_ones(policy: OpenVLAOFT) -> None:
    assert [[name, list(tensor.shape)] for name, tensor in policy.model.state_dict().items()] == SPEC["param_names"]


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_actions_alone(policy: OpenVLAOFT, case: int) -> None:
    ids, pixels = case_inputs(case)
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        logits = policy.action_logits(ids, mask, pixels)
    assert relative_difference(logits[0], VECTORS[f"case{case}.action_logits"]) < 1e-4
    inputs = {"input_ids": ids, "attention_mask": mask, "images": pixels}
    chunk = policy.act(inputs, Sampling(do_sample=False, temperature=1.0, seeds=[0]))
    torch.testing.assert_close(chunk.actions[0].double(), VECTORS[f"case{case}.actions"].double(), rtol=0, atol=1e-6)


def test_logits_in_a_right_padded_batch(policy: OpenVLAOFT) -> None:
    prompts, pixels = zip(*(case_inputs(case) for case in CASES), strict=True)
    longest = max(ids.shape[1] for ids in prompts) + 3
    batch = torch.full((len(prompts), longest), SPEC["config"]["pad_token_id"])
    mask = torch.zeros_like(batch, dtype=torch.bool)
    for row, ids in enumerate(prompts):
        batch[row, : ids.shape[1]] = ids
        mask[row, : ids.shape[1]] = True
    with torch.no_grad():
        logits = policy.action_logits(batch, mask, torch.cat(pixels))
    for row, case in enumerate(CASES):
        assert relative_difference(logits[row], VECTORS[f"case{case}.action_logits"]) < 1e-4


def test_published_size_has_the_published_number_of_parameters() -> None:
    config = {
        **SPEC["config"],
        "text_config": {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064},
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    }
    with torch.device("meta"):
        model = PrismaticOFT(config, 56)
    assert sum(p.numel() for p in model.parameters()) == 7_541_237_184
    means = [mean for mean, _ in model.vision_backbone.normalisation]
    assert means == [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]


def test_two_views_are_the_patches_of_one_after_the_other(policy: OpenVLAOFT) -> None:
    _, first = case_inputs(0)
    _, second = case_inputs(1)
    with torch.no_grad():
        both = policy.model.vision_backbone(torch.cat([first, second], dim=1))
        apart = [policy.model.vision_backbone(view) for view in (first, second)]
    torch.testing.assert_close(both, torch.cat(apart, dim=1), rtol=1e-4, atol=1e-4)
