"""OpenVLA-OFT against vectors of the published implementation, with weights addressed by the published names."""

import pytest
import torch

from siirl.policies.base import Sampling
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic.parallel import PrismaticOFT
from tests.policies.golden import Golden, relative_difference

GOLDEN = Golden.read("openvla_oft_small")


@pytest.fixture(scope="module")
def policy() -> OpenVLAOFT:
    return GOLDEN.policy(OpenVLAOFT, 56)


def test_parameter_names_shapes_and_order_are_the_published_ones(policy: OpenVLAOFT) -> None:
    names = [[name, list(tensor.shape)] for name, tensor in policy.model.state_dict().items()]
    assert names == GOLDEN.spec["param_names"]


@pytest.mark.parametrize("case", GOLDEN.cases)
def test_logits_and_greedy_actions_alone(policy: OpenVLAOFT, case: int) -> None:
    ids, pixels = GOLDEN.inputs(case)
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        logits = policy.action_logits(ids, mask, pixels)
    assert relative_difference(logits[0], GOLDEN[f"case{case}.action_logits"]) < 1e-4
    inputs = {"input_ids": ids, "attention_mask": mask, "images": pixels}
    chunk = policy.act(inputs, Sampling(do_sample=False, temperature=1.0, seeds=[0]))
    torch.testing.assert_close(chunk.actions[0].double(), GOLDEN[f"case{case}.actions"].double(), rtol=0, atol=1e-6)


def test_logits_in_a_right_padded_batch(policy: OpenVLAOFT) -> None:
    with torch.no_grad():
        logits = policy.action_logits(*GOLDEN.batch())
    for row, case in enumerate(GOLDEN.cases):
        assert relative_difference(logits[row], GOLDEN[f"case{case}.action_logits"]) < 1e-4


def test_published_size_has_the_published_number_of_parameters() -> None:
    config = {
        **GOLDEN.config,
        "text_config": {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064},
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    }
    with torch.device("meta"):
        model = PrismaticOFT(config, 56)
    assert sum(p.numel() for p in model.parameters()) == 7_541_237_184
    means = [mean for mean, _ in model.vision_backbone.normalisation]
    assert means == [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]


def test_two_views_are_the_patches_of_one_after_the_other(policy: OpenVLAOFT) -> None:
    _, first = GOLDEN.inputs(0)
    _, second = GOLDEN.inputs(1)
    with torch.no_grad():
        both = policy.model.vision_backbone(torch.cat([first, second], dim=1))
        apart = [policy.model.vision_backbone(view) for view in (first, second)]
    torch.testing.assert_close(both, torch.cat(apart, dim=1), rtol=1e-4, atol=1e-4)
