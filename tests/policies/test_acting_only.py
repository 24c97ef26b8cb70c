"""Weights that rest in bf16 where they only act: the same actions and log-probs, half the memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies import load_policy
from siirl.policies.base import POLICIES, Sampling
from siirl.roles.trainer import Trainer
from tests.policies.observations import observe
from tests.policies.tiny import tiny_l1, tiny_openvla, tiny_openvla_folder, tiny_policy, tiny_policy_folder
from tests.training.updates import small_config

CPU = torch.device("cpu")
CLASSES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "openvla": (tiny_openvla_folder, 1),
    "openvla-oft": (tiny_policy_folder, 8),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def load(folder: Path, kind: str, acting_only: bool, **model: Any) -> Any:
    settings = ModelConfig(path=str(folder), **{"dtype": "bf16", **model})
    return POLICIES.get(kind).load(settings, EmbodiedConfig(action_chunks_len=CLASSES[kind][1]), CPU, acting_only)


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("kind", CLASSES)
def test_what_acts_is_the_same_bit_for_bit(kind: str, lora_rank: int, tmp_path: Path) -> None:
    folder = CLASSES[kind][0](tmp_path)
    whole, resting = (load(folder, kind, acting_only, lora_rank=lora_rank) for acting_only in (False, True))
    adapters = {name: p for name, p in whole.model.named_parameters() if ".lora_" in name}
    for parameter in adapters.values():
        nn.init.normal_(parameter, std=0.05)
    assert bool(adapters) == bool(lora_rank)
    resting.model.load_state_dict(adapters, strict=False)
    dtypes = {name: p.dtype for name, p in resting.model.named_parameters()}
    assert all(dtypes[name] == torch.float32 for name in adapters)
    for count in (1, 3):
        inputs = whole.prepare(observe(count))
        for sampling in (Sampling(True, 1.3, range(count)), Sampling(False, 1.0, range(count))):
            expected, chunk = whole.act(inputs, sampling), resting.act(inputs, sampling)
            assert torch.equal(chunk.sampled, expected.sampled)
            assert torch.equal(chunk.actions, expected.actions)
            assert torch.equal(chunk.log_probs, expected.log_probs)
    assert torch.equal(
        resting.evaluate(inputs, chunk.sampled, 1.0).entropy, whole.evaluate(inputs, chunk.sampled, 1.0).entropy
    )


def test_linear_layers_and_convolutions_rest_in_bf16_and_nothing_else(tmp_path: Path) -> None:
    policy = load(tiny_policy_folder(tmp_path), "openvla-oft", True)
    half = {name for name, p in policy.model.named_parameters() if p.dtype == torch.bfloat16}
    layers = {n: m for n, m in policy.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    del layers["language_model.lm_head"]
    assert half == {f"{name}.{p}" for name, layer in layers.items() for p in dict(layer.named_parameters())}
    assert {"vision_backbone.featurizer.patch_embed.proj.weight", "proprio_projector.fc1.bias"} < half
    assert all(p.dtype == torch.float32 for n, p in policy.model.named_parameters() if n not in half)
    assert all(buffer.dtype == torch.float32 for buffer in policy.model.buffers())
    assert all(
        p.dtype == torch.float32
        for p in load(tmp_path / "tiny-openvla-oft", "openvla-oft", True, dtype="fp32").model.parameters()
    )
    with pytest.raises(ValueError, match="the update needs float32 weights, but vision_backbone"):
        Trainer(policy, small_config(), CPU)


def test_a_regression_head_stays_float32_and_acts_the_same(tmp_path: Path) -> None:
    tiny_l1().save(str(tmp_path))
    policy, whole = load_policy(tmp_path, dtype="bf16"), load_policy(tmp_path)
    whole.dtype = "bf16"  # type: ignore[attr-defined]
    assert all(p.dtype == torch.float32 for n, p in policy.model.named_parameters() if n.startswith("action_head."))
    assert any(p.dtype == torch.bfloat16 for p in policy.model.parameters())
    inputs = policy.prepare(observe(2, wrist=True))
    assert torch.equal(
        policy.act(inputs, Sampling(False, 1.0)).actions, whole.act(inputs, Sampling(False, 1.0)).actions
    )


@pytest.mark.parametrize("build", [tiny_policy, tiny_openvla])
def test_a_folder_in_bf16_comes_back_from_bf16_weights_with_the_same_values(
    build: Callable[[], Any], tmp_path: Path
) -> None:
    start, file = build(), "model.safetensors"
    start.save(str(tmp_path / "a"))
    stored = load_file(tmp_path / "a" / file)
    save_file({name: tensor.bfloat16() for name, tensor in stored.items()}, tmp_path / "a" / file)
    load_policy(tmp_path / "a", dtype="bf16").save(str(tmp_path / "b"))
    again = load_file(tmp_path / "b" / file)
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[name].float(), tensor.bfloat16().float()) for name, tensor in stored.items())
    acting, from_saved = (load_policy(tmp_path / name, dtype="bf16") for name in "ab")
    inputs = acting.prepare(observe(1))
    sampling = Sampling(True, 1.0, [1])
    assert torch.equal(acting.act(inputs, sampling).log_probs, from_saved.act(inputs, sampling).log_probs)
