"""OpenVLA-OFT's regression head against vectors of the published implementation, with weights by the published names."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from siirl.policies.base import Sampling
from siirl.policies.openvla_oft_l1 import OpenVLAOFTL1
from siirl.policies.prismatic.actions import NORMALIZATION, Bounds
from siirl.policies.prismatic.parts import PARTS
from tests.policies.golden import Golden, fill_by_name, relative_difference

PUBLISHED = Golden.read("openvla_oft_l1_small")
COMPLETED = {**PUBLISHED.config, "use_proprio": True, "proprio_dim": 8}  # as the files beside the weights imply
GOLDEN = replace(PUBLISHED, spec={**PUBLISHED.spec, "config": COMPLETED})
GREEDY = Sampling(do_sample=False, temperature=1.0, seeds=[])


@pytest.fixture(scope="module")
def policy() -> OpenVLAOFTL1:
    policy = GOLDEN.policy(OpenVLAOFTL1, 56)
    for part in PARTS:
        fill_by_name(getattr(policy.model, part))
    return policy


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_parameters_have_the_published_names_shapes_and_order(policy: OpenVLAOFTL1, part: str) -> None:
    state = getattr(policy.model, part).state_dict()
    assert [[name, list(tensor.shape)] for name, tensor in state.items()] == GOLDEN.spec["param_names"][part]


@pytest.mark.parametrize("case", GOLDEN.cases)
def test_regressed_actions_alone(policy: OpenVLAOFTL1, case: int) -> None:
    ids, pixels = GOLDEN.inputs(case)
    assert policy.proprio_bounds is not None
    proprio = policy.proprio_bounds.normalise(GOLDEN[f"case{case}.state"].numpy())
    np.testing.assert_allclose(proprio, GOLDEN[f"case{case}.proprio"].numpy(), rtol=0, atol=1e-6)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids, dtype=torch.bool),
        "images": pixels,
        "proprio": torch.from_numpy(proprio[None]).float(),
    }
    chunk = policy.act(inputs, GREEDY)
    regressed = GOLDEN[f"case{case}.normalized_actions"]
    assert relative_difference(chunk.sampled[0].view(8, 7), regressed) < 1e-4
    assert relative_difference(chunk.actions[0].double(), GOLDEN[f"case{case}.actions"]) < 1e-4
    assert regressed.abs().max() > 1, "nothing is clipped"


def test_regressed_actions_in_a_right_padded_batch(policy: OpenVLAOFTL1) -> None:
    ids, mask, pixels = GOLDEN.batch()
    proprio = torch.stack([GOLDEN[f"case{case}.proprio"] for case in GOLDEN.cases])
    inputs = {"input_ids": ids, "attention_mask": mask, "images": pixels, "proprio": proprio}
    actions = policy.act(inputs, GREEDY).actions
    for row, case in enumerate(GOLDEN.cases):
        assert relative_difference(actions[row].double(), GOLDEN[f"case{case}.actions"]) < 1e-4


@pytest.mark.parametrize(("kind", "name"), [("bounds_q99", "actions"), ("bounds", "actions_bounds")])
def test_both_kinds_of_normalisation_are_the_published_ones(kind: str, name: str) -> None:
    assert NORMALIZATION not in PUBLISHED.config
    statistics = PUBLISHED.config["norm_stats"]["libero_goal_no_noops"]["action"]
    for case in GOLDEN.cases:
        regressed = GOLDEN[f"case{case}.normalized_actions"].numpy()
        ours = Bounds.from_statistics(statistics, kind).unnormalise(regressed)
        np.testing.assert_allclose(ours, GOLDEN[f"case{case}.{name}"].numpy(), rtol=0, atol=1e-6)


def test_published_size_has_the_published_shapes() -> None:
    text = {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064}
    with torch.device("meta"):
        model = OpenVLAOFTL1.network({**COMPLETED, "text_config": text}, 56)
    assert model.action_head.model.fc1.weight.shape == (4096, 7 * 4096)
    assert model.proprio_projector.fc1.weight.shape == (4096, 8)
