"""LoRA on the real networks, tiny: what acts, what trains, which layers, and the weights that it merges into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies import load_policy, lora
from siirl.policies.base import Sampling
from siirl.policies.openvla import OpenVLA
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.policies.observations import observe
from tests.policies.tiny import adapt, tiny_openvla, tiny_policy, tiny_policy_folder

BOTH = pytest.mark.parametrize("build", [tiny_policy, tiny_openvla])
SAMPLING = Sampling(True, 1.0, [1, 2])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def adapted_layers(policy: OpenVLA | OpenVLAOFT) -> set[str]:
    return {name.partition(".lora_A.")[0] for name, _ in policy.model.named_parameters() if ".lora_A." in name}


def linear_layers(policy: OpenVLA | OpenVLAOFT) -> set[str]:
    return {name for name, module in policy.model.named_modules() if isinstance(module, nn.Linear)}


@BOTH
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_new_adapters_act_exactly_as_the_policy_without(build: Callable[..., Any], dtype: str) -> None:
    plain, policy = build(dtype=dtype), build(dtype=dtype)
    adapt(policy, trained=False)
    inputs = plain.prepare(observe(2))
    expected, chunk = plain.act(inputs, SAMPLING), policy.act(inputs, SAMPLING)
    assert torch.equal(chunk.sampled, expected.sampled)
    assert torch.equal(chunk.log_probs, expected.log_probs)
    changed = build(dtype=dtype)
    adapt(changed, trained=True)
    assert not torch.equal(changed.act(inputs, SAMPLING).log_probs, expected.log_probs)


@BOTH
def test_all_linear_layers_but_the_head_are_adapted_and_adapters_alone_train(build: Callable[..., Any]) -> None:
    policy = build()
    expected = linear_layers(policy) - {"language_model.lm_head"}
    adapt(policy, trained=False)
    assert adapted_layers(policy) == expected
    for name, parameter in policy.model.named_parameters():
        assert parameter.requires_grad == (".lora_" in name), name
        assert parameter.dtype == torch.float32


def test_a_name_means_every_linear_layer_that_ends_in_it() -> None:
    policy = tiny_policy()
    adapt(policy, trained=False, target_modules=["q_proj", "attn.proj", "projector.fc1"])
    q_proj = {f"language_model.model.layers.{i}.self_attn.q_proj" for i in range(2)}
    vision = {f"vision_backbone.featurizer.blocks.{i}.attn.proj" for i in range(3)}
    assert adapted_layers(policy) == q_proj | vision | {"projector.fc1"}


@pytest.mark.parametrize(("target", "hint"), [("q_porj", "Did you mean 'q_proj'"), ("lm_head", "ends of their names")])
def test_a_name_of_no_layer_is_refused_and_the_policy_left_alone(target: str, hint: str) -> None:
    policy = tiny_policy()
    with pytest.raises(ValueError, match=rf"target_modules names '{target}'.*down_proj, fc1.*qkv") as error:
        adapt(policy, trained=False, target_modules=["v_proj", target])
    assert hint in str(error.value)
    assert adapted_layers(policy) == set()
    assert all(parameter.requires_grad for parameter in policy.model.parameters())


def test_a_folder_is_loaded_with_the_adapters_that_the_config_asks_for(tmp_path: Path) -> None:
    folder = str(tiny_policy_folder(tmp_path))
    settings = ModelConfig(path=folder, dtype="fp32", lora_rank=2, target_modules=["v_proj"])
    policy = OpenVLAOFT.load(settings, EmbodiedConfig(), torch.device("cpu"))
    assert len(adapted_layers(policy)) == 2
    assert all(p.requires_grad for p in load_policy(folder).model.parameters())
    settings.target_modules = ["no_such"]
    with pytest.raises(ValueError, match="target_modules names 'no_such'"):
        OpenVLAOFT.longest_prompt(settings, EmbodiedConfig(), [""])


def gradients(policy: OpenVLA | OpenVLAOFT) -> dict[str, Tensor]:
    """Of the log-probs of a sampled chunk."""
    inputs = policy.prepare(observe(2))
    policy.evaluate(inputs, policy.act(inputs, SAMPLING).sampled, 1.0).log_probs.sum().backward()
    return {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}


@BOTH
def test_every_adapter_that_computes_has_a_gradient_with_and_without_checkpointing(build: Callable[..., Any]) -> None:
    plain, recomputing = build(), build()
    for policy in (plain, recomputing):
        adapt(policy, trained=True)
    recomputing.model.enable_gradient_checkpointing()
    expected, found = gradients(plain), gradients(recomputing)
    trained = {name for name, parameter in plain.model.named_parameters() if parameter.requires_grad}
    unused = {name for name in trained if ".featurizer.blocks.2." in name}  # features are those before the last block
    assert unused
    assert found.keys() == expected.keys() == trained - unused
    for name, gradient in expected.items():
        assert gradient.any(), name
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


@BOTH
def test_a_saved_policy_has_its_adapters_merged_in_and_acts_alike(build: Callable[..., Any], tmp_path: Path) -> None:
    policy = build()
    adapt(policy, trained=True, lora_alpha=8)
    policy.save(str(tmp_path))
    merged = load_policy(tmp_path)
    assert merged.model.state_dict().keys() == build().model.state_dict().keys()
    inputs = policy.prepare(observe(2))
    chunk = policy.act(inputs, SAMPLING)
    assert torch.equal(merged.act(inputs, SAMPLING).sampled, chunk.sampled)
    torch.testing.assert_close(merged.act(inputs, SAMPLING).log_probs, chunk.log_probs, rtol=1e-5, atol=1e-5)


def test_weights_are_merged_as_peft_does() -> None:
    policy = tiny_policy()
    adapt(policy, trained=True, lora_alpha=8)
    saved, state = lora.merged_state(policy.model), policy.model.state_dict()
    name = "language_model.model.layers.1.mlp.down_proj"
    a, b = (state[factor] for factor in lora.factor_names(name))
    settings = ModelConfig(lora_rank=4, lora_alpha=8)
    own = lora.merge(state[f"{name}.base_layer.weight"], a, b, settings)
    policy.model.get_submodule(name).merge()
    assert torch.equal(policy.model.state_dict()[f"{name}.base_layer.weight"], saved[f"{name}.weight"])
    assert torch.equal(own, saved[f"{name}.weight"])


def test_without_peft_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ValueError, match=r"lora_rank > 0 needs the package peft.*pip install 'siirl\[lora\]'"):
        adapt(tiny_policy(), trained=False)
