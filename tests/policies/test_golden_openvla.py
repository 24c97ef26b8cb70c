"""OpenVLA against vectors of the published implementation, with weights addressed by the published names."""

import pytest
import torch

from siirl.policies.base import Sampling
from siirl.policies.openvla import OpenVLA
from tests.policies.golden import Golden, relative_difference

GOLDEN = Golden.read("openvla_small")


@pytest.fixture(scope="module")
def policy() -> OpenVLA:
    return GOLDEN.policy(OpenVLA, 7)


def test_from_config_has_the_published_parameters(policy: OpenVLA) -> None:
    built = OpenVLA.from_config(GOLDEN.config)
    for model in (built.model, policy.model):
        assert [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()] == GOLDEN.spec["param_names"]


@pytest.mark.parametrize("case", GOLDEN.cases)
def test_greedy_decoding_alone(policy: OpenVLA, case: int) -> None:
    ids, pixels = GOLDEN.inputs(case)
    mask = torch.ones_like(ids, dtype=torch.bool)
    expected, tokens = GOLDEN[f"case{case}.action_logits"], GOLDEN[f"case{case}.greedy_tokens"]
    assert relative_difference(policy.action_logits(ids, mask, pixels)[0], expected) < 1e-4
    assert relative_difference(policy.action_logits(ids, mask, pixels, tokens[None])[0], expected) < 1e-4
    inputs = {"input_ids": ids, "attention_mask": mask, "images": pixels}
    chunk = policy.act(inputs, Sampling(do_sample=False, temperature=1.0, seeds=[0]))
    assert torch.equal(chunk.sampled[0] + policy.model.first_action_id, tokens)
    actions = GOLDEN[f"case{case}.actions"].double()
    torch.testing.assert_close(chunk.actions[0, 0].double(), actions, rtol=0, atol=1e-6)


def test_both_ways_in_a_right_padded_batch(policy: OpenVLA) -> None:
    tokens = torch.stack([GOLDEN[f"case{case}.greedy_tokens"] for case in GOLDEN.cases])
    for logits in (policy.action_logits(*GOLDEN.batch()), policy.action_logits(*GOLDEN.batch(), tokens)):
        for row, case in enumerate(GOLDEN.cases):
            assert relative_difference(logits[row], GOLDEN[f"case{case}.action_logits"]) < 1e-4
