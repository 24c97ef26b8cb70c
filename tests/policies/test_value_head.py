"""The value head: where it reads, how it starts, what trains, and its file beside a policy's weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from siirl.config.schema import Config, EmbodiedConfig, ModelConfig
from siirl.config.value_head import FILE, PREFIX, policy_shapes, value_head_shapes
from siirl.policies import load_policy
from siirl.policies.base import POLICIES, Sampling, ValueHeadSettings
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic.policy import PrismaticPolicy
from siirl.policies.value_head import add_value_head
from tests.policies.observations import observe
from tests.policies.tiny import tiny_openvla, tiny_policy, tiny_policy_folder, train_value_head

FIRST, LAST = ValueHeadSettings("first_action", 1), ValueHeadSettings("last_prompt", 1)


def with_head(policy: Any, settings: ValueHeadSettings = FIRST) -> Any:
    """The policy with a head that has left its start."""
    add_value_head(policy.model, settings, policy.model.hidden_size)
    train_value_head(policy)
    return policy


def load(folder: Path, settings: ValueHeadSettings | None = FIRST, **more: Any) -> OpenVLAOFT:
    acting_only = more.pop("acting_only", False)
    model = ModelConfig(path=str(folder), **{"dtype": "fp32", **more})
    return OpenVLAOFT.load(model, EmbodiedConfig(), torch.device("cpu"), acting_only, settings)


def test_settings_follow_the_config() -> None:
    config = Config()
    assert ValueHeadSettings.of(config) is None
    config.critic.use_critic_model = True
    assert ValueHeadSettings.of(config) == ValueHeadSettings("first_action", 1)
    config.critic.position, config.algorithm.reward_type = "last_prompt", "action_level"
    assert ValueHeadSettings.of(config) == ValueHeadSettings("last_prompt", 8)


def test_a_new_head_gives_zeros_is_always_the_same_and_leaves_random_numbers_alone(either: PrismaticPolicy) -> None:
    before = torch.random.get_rng_state()
    add_value_head(either.model, ValueHeadSettings("first_action", 8), either.model.hidden_size)
    assert torch.equal(torch.random.get_rng_state(), before)
    first = {name: t.clone() for name, t in either.model.value_head.state_dict().items()}  # type: ignore[union-attr]
    assert {f"{PREFIX}{name}": [*t.shape] for name, t in first.items()} == value_head_shapes(32, 8)
    inputs = either.prepare(observe(2))
    assert torch.equal(either.act(inputs, Sampling(False, 1.0, [0, 0])).values, torch.zeros(2, 8))
    add_value_head(either.model, ValueHeadSettings("first_action", 8), either.model.hidden_size)
    assert all(torch.equal(t, first[n]) for n, t in either.model.value_head.state_dict().items())  # type: ignore[union-attr]
    assert first["fc1.weight"].std() == pytest.approx((2 / 32) ** 0.5, rel=0.05)


def test_what_was_drawn_does_not_change_the_value(either: PrismaticPolicy) -> None:
    policy = with_head(either)
    inputs = policy.prepare(observe(3))
    tokens = policy.model.num_action_tokens
    values = [policy.evaluate(inputs, torch.full((3, tokens), b), 1.0).values for b in (3, 200)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-6)


def test_oft_reads_at_the_first_empty_place_or_at_the_last_word_openvla_at_its_last_word() -> None:
    observation = observe(2)  # the second prompt is padded
    at = {}
    for build in (tiny_policy, tiny_openvla):
        for settings in (FIRST, LAST):
            policy = with_head(build(), settings)
            at[build, settings] = policy.value(policy.prepare(observation))
    assert torch.equal(at[tiny_openvla, FIRST], at[tiny_openvla, LAST])
    assert ((at[tiny_policy, FIRST] - at[tiny_policy, LAST]).abs() > 1e-3).all()

    policy, states = with_head(tiny_policy(), LAST), []
    transform = policy.model.transform
    policy.model.transform = lambda *args, **more: states.append(transform(*args, **more)) or states[-1]
    inputs = policy.prepare(observation)
    policy.value(inputs)
    prefix = 4 + 1  # patches and proprioception, behind BOS
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        for settings, place in ((LAST, prefix + length - 1), (FIRST, prefix + inputs["input_ids"].shape[1])):
            normed = policy.model.language_model.model.norm(states[0][row : row + 1, place])
            torch.testing.assert_close(policy.model.value_head(normed)[0], at[tiny_policy, settings][row])


def test_the_value_loss_trains_head_and_network_but_an_untrained_head_moves_itself_alone(
    either: PrismaticPolicy,
) -> None:
    def trained(policy: Any) -> set[str]:
        inputs = policy.prepare(observe(2))
        sampled = policy.act(inputs, Sampling(True, 1.0, [1, 2])).sampled
        policy.model.zero_grad()
        (policy.evaluate(inputs, sampled, 1.0).values - 1).square().sum().backward()
        return {name for name, p in policy.model.named_parameters() if p.grad is not None and p.grad.any()}

    add_value_head(either.model, FIRST, either.model.hidden_size)
    assert trained(either) == {f"{PREFIX}fc3.weight", f"{PREFIX}fc3.bias"}
    train_value_head(either)  # type: ignore[arg-type]
    names = trained(either)
    assert set(value_head_shapes(32, 1)) < names
    assert {"projector.fc1.weight", "language_model.model.layers.0.mlp.up_proj.weight"} < names


@pytest.mark.parametrize("kind", ["openvla", "openvla-oft"])
def test_the_head_computes_in_float32_also_where_weights_rest_in_bf16(kind: str, tmp_path: Path) -> None:
    with_head(tiny_openvla() if kind == "openvla" else tiny_policy()).save(str(tmp_path))
    factory = POLICIES.get(kind)
    settings = ModelConfig(path=str(tmp_path), dtype="bf16"), factory.describe(str(tmp_path)), torch.device("cpu")
    whole, resting = (factory.load(*settings, acting_only=acting, value_head=FIRST) for acting in (False, True))
    dtypes = {name: p.dtype for name, p in resting.model.named_parameters()}
    assert {dtypes[name] for name in value_head_shapes(32, 1)} == {torch.float32}
    assert torch.bfloat16 in dtypes.values()
    inputs = whole.prepare(observe(3))
    sampling = Sampling(True, 1.0, [1, 2, 3])
    values = resting.act(inputs, sampling).values
    assert values is not None
    assert torch.equal(values, whole.act(inputs, sampling).values)
    assert (values.bfloat16().float() - values).abs().max() > 0, "bf16 would round it"


def test_beside_adapters_the_whole_head_is_trained_and_takes_none(tmp_path: Path) -> None:
    policy = load(tiny_policy_folder(tmp_path), lora_rank=2)
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert {name for name in trained if ".lora_" not in name} == set(value_head_shapes(32, 1))
    assert not any("value_head" in name for name in trained if ".lora_" in name)
    train_value_head(policy)
    policy.save(str(tmp_path / "merged"))
    assert policy_shapes(tmp_path / "merged") == {n: [*t.shape] for n, t in tiny_policy().model.state_dict().items()}
    again = load(tmp_path / "merged")
    inputs = policy.prepare(observe(2))
    torch.testing.assert_close(again.value(inputs), policy.value(inputs), rtol=1e-5, atol=1e-5)


def test_a_policy_may_be_saved_where_its_head_came_from(tmp_path: Path) -> None:
    with_head(tiny_policy()).save(str(tmp_path))
    policy = load(tmp_path)
    head: Any = policy.model.value_head
    with torch.no_grad():
        head.fc1.bias.fill_(3)
    policy.save(str(tmp_path))
    again: Any = load(tmp_path).model.value_head
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in head.state_dict().items())


def test_the_file_lies_beside_the_published_layout_and_is_gone_after_a_save_without(tmp_path: Path) -> None:
    with_head(tiny_policy()).save(str(tmp_path))
    names = tiny_policy().model.state_dict().keys()
    assert load_file(tmp_path / "model.safetensors").keys() == names
    assert load_file(tmp_path / FILE).keys() == value_head_shapes(32, 1).keys()
    plain = load_policy(tmp_path)
    assert plain.model.state_dict().keys() == names
    plain.save(str(tmp_path))
    assert not (tmp_path / FILE).exists()
    assert not load(tmp_path).model.value_head.fc3.weight.any(), "a new one"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (ValueHeadSettings("first_action", 8), r"value_head\.fc3\.weight is \[1, 128\] instead of \[8, 128\]"),
        (LAST, r"reads the state at 'first_action' instead of 'last_prompt'"),
    ],
)
def test_another_head_is_refused_by_name(settings: ValueHeadSettings, told: str, tmp_path: Path) -> None:
    with_head(tiny_policy()).save(str(tmp_path))
    model = ModelConfig(path=str(tmp_path))
    for ask in (
        lambda: load(tmp_path, settings),
        lambda: OpenVLAOFT.longest_prompt(model, EmbodiedConfig(), [""], settings),
    ):
        with pytest.raises(ValueError, match=told) as error:
            ask()
        assert f"{tmp_path / FILE} holds another value head" in str(error.value)
        assert "remove the file to start with a new head" in str(error.value)


def test_a_damaged_file_and_missing_parameters_are_refused(tmp_path: Path) -> None:
    with_head(tiny_policy()).save(str(tmp_path))
    values = load_file(tmp_path / FILE)
    del values[f"{PREFIX}fc2.bias"]
    save_file(values, tmp_path / FILE, metadata={"position": "first_action"})
    with pytest.raises(ValueError, match=r"value_head\.fc2\.bias is missing instead of \[128\]"):
        load(tmp_path)
    (tmp_path / FILE).write_bytes(b"\x10")
    with pytest.raises(ValueError, match="cut short"):
        load(tmp_path)
    assert load_policy(tmp_path).chunk_len == 8
