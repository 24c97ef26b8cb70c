"""``use_torch_compile``: the same policy from compiled blocks, in rollout and update. Compiles for real, so it is slow."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import functional as F

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.base import POLICIES, Sampling
from siirl.policies.prismatic.policy import PrismaticPolicy
from tests.policies.observations import observe, select
from tests.policies.starvla.tiny import load, tiny_starvla_folder
from tests.policies.tiny import adapt, tiny_openvla, tiny_openvla_folder, tiny_policy, tiny_policy_folder

COMPILER = os.environ.get("CXX", "g++")
pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"use_torch_compile is NOT TESTED here: there is no C++ compiler {COMPILER}"
)


def gradients(policy: PrismaticPolicy) -> list[torch.Tensor]:
    return [p.grad for p in policy.model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("plain", "folder", "chunk_len"), [(tiny_policy, tiny_policy_folder, 8), (tiny_openvla, tiny_openvla_folder, 1)]
)
def test_compiled_blocks_act_and_learn_alike(
    plain: Callable[[], PrismaticPolicy], folder: Callable[[Path], Path], chunk_len: int, tmp_path: Path
) -> None:
    policy, embodied = plain(), EmbodiedConfig(action_chunks_len=chunk_len)
    model = ModelConfig(str(folder(tmp_path)), enable_gradient_checkpointing=True, use_torch_compile=True, dtype="fp32")
    compiled = POLICIES.get(policy.embodied_type).load(model, embodied, torch.device("cpu"))
    assert isinstance(compiled, PrismaticPolicy)
    assert dict(compiled.model.named_parameters()).keys() == dict(policy.model.named_parameters()).keys()
    five = policy.prepare(observe(5))  # as many rows as patches would be other code
    three = select(five, [0, 1, 2])
    longer = {name: F.pad(three[name], (0, 2)) for name in ("input_ids", "attention_mask")}
    graphs = [counters["stats"]["unique_graphs"]]
    for inputs in (five, three | longer):
        sampling = Sampling(True, 1.3, range(len(inputs["images"])))
        expected, chunk = policy.act(inputs, sampling), compiled.act(inputs, sampling)
        assert torch.equal(chunk.sampled, expected.sampled)
        assert (chunk.log_probs - expected.log_probs).abs().max() < 1e-4
        for each in (policy, compiled):
            each.model.zero_grad()
            now = each.evaluate(inputs, expected.sampled, 1.3)
            assert (now.log_probs - expected.log_probs).abs().max() < 1e-4
            now.log_probs.sum().backward()
        for one, other in zip(gradients(policy), gradients(compiled), strict=True):
            assert (one - other).norm() <= 1e-4 * one.norm().clamp(min=1)
        graphs.append(counters["stats"]["unique_graphs"])
    before, first, second = graphs
    assert first - before >= 3, "acting, going on and learning, or Llama and vision"
    assert second == first, "other sizes need no other code"
    assert not counters["graph_break"]


def test_compiled_layers_of_starvla_act_and_learn_alike(tmp_path: Path) -> None:
    folder = tiny_starvla_folder(tmp_path)
    policy, compiled = load(folder), load(folder, use_torch_compile=True, enable_gradient_checkpointing=True)
    inputs = policy.prepare(observe(3, wrist=True))
    sampling = Sampling(True, 1.3, range(3))
    expected, chunk = policy.act(inputs, sampling), compiled.act(inputs, sampling)
    assert (chunk.sampled - expected.sampled).abs().max() < 1e-4
    for each in (policy, compiled):
        each.evaluate(inputs, expected.sampled, 1.3).log_probs.sum().backward()
    for one, other in zip(policy.model.parameters(), compiled.model.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None
            assert (one.grad - other.grad).norm() <= 1e-3 * one.grad.norm().clamp(min=1e-3)


def test_compiled_blocks_with_adapters_act_and_learn_alike() -> None:
    policy, compiled = tiny_policy(), tiny_policy()
    for each in (policy, compiled):
        adapt(each, trained=True)
        each.model.enable_gradient_checkpointing()
    compiled.model.compile_blocks()
    inputs = policy.prepare(observe(3))
    sampling = Sampling(True, 1.3, range(3))
    expected, chunk = policy.act(inputs, sampling), compiled.act(inputs, sampling)
    assert torch.equal(chunk.sampled, expected.sampled)
    assert (chunk.log_probs - expected.log_probs).abs().max() < 1e-4
    for each in (policy, compiled):
        each.evaluate(inputs, expected.sampled, 1.3).log_probs.sum().backward()
    learnt = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    assert learnt
    assert all(".lora_" in name for name in learnt)
    found = {name: p.grad for name, p in compiled.model.named_parameters() if p.grad is not None}
    assert found.keys() == learnt.keys()
    for name, gradient in learnt.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm().clamp(min=1), name
