"""What every registered policy must do, on tiny folders: `siirl.policies.base.Policy` and `PolicyFactory`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from siirl.config.schema import ModelConfig
from siirl.policies.base import POLICIES, Sampling, ValueHeadSettings
from tests.policies.observations import observe, row_of, select
from tests.policies.starvla.tiny import tiny_starvla_folder
from tests.policies.tiny import tiny_l1_folder, tiny_openvla_folder, tiny_policy_folder, train_value_head

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "openvla": tiny_openvla_folder,
    "openvla-oft": tiny_policy_folder,
    "openvla-oft-l1": tiny_l1_folder,
    "starvla": tiny_starvla_folder,
}
KINDS = POLICIES.names()
TRAINABLE = [kind for kind in KINDS if not POLICIES.get(kind).untrainable]
UNTRAINABLE = [kind for kind in KINDS if kind not in TRAINABLE]
CONTINUOUS = [kind for kind in KINDS if POLICIES.get(kind).continuous]
TOLERANCE = {"fp32": 2e-5, "bf16": 0.1}
"""Of log-probs and values near 1: a cache, padding and a batch's shape may change how sums are split."""
DENSITY_TOLERANCE = {"fp32": 2e-4, "bf16": 0.1}
"""Of log-densities: a difference of means counts as often as it goes into the spread of 0.1."""
HEADS = [ValueHeadSettings(position, outputs) for position in ("first_action", "last_prompt") for outputs in (1, 8)]
HEAD = HEADS[0]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind; a policy that is newly registered needs one in `FOLDERS`."""
    return {kind: FOLDERS[kind](tmp_path_factory.mktemp("policy")) for kind in KINDS}


def load(folder: Path, kind: str, head: ValueHeadSettings | None = None, dtype: str = "fp32") -> Any:
    """The policy; a head gives other values than 0."""
    factory = POLICIES.get(kind)
    settings = ModelConfig(path=str(folder), dtype=dtype)
    policy: Any = factory.load(settings, factory.describe(str(folder)), CPU, value_head=head)
    if head is not None:
        train_value_head(policy)
    return policy


def sampling(kind: str, seeds: list[int]) -> Sampling:
    """Draws, where there is anything to draw from."""
    return Sampling(kind in TRAINABLE, 1.3, seeds)


def same_draws(kind: str, found: Tensor, expected: Tensor) -> bool:
    """Tokens are the same; numbers are drawn around means that a batch's shape may round otherwise."""
    return torch.allclose(found, expected, atol=1e-5) if kind in CONTINUOUS else torch.equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_chunks_have_the_shapes_and_dtypes_of_the_contract(kind: str, folders: dict[str, Path]) -> None:
    policy = load(folders[kind], kind)
    inputs = policy.prepare(observe(3, wrist=True))
    assert all(len(tensor) == 3 for tensor in inputs.values())
    chunk = policy.act(inputs, sampling(kind, [1, 2, 3]))
    tokens = policy.chunk_len * policy.action_dim
    assert (chunk.actions.shape, chunk.actions.dtype) == ((3, policy.chunk_len, policy.action_dim), torch.float32)
    assert (chunk.log_probs.shape, chunk.log_probs.dtype) == ((3, tokens), torch.float32)
    assert chunk.sampled.shape == (3, tokens)
    assert chunk.actions.isfinite().all()
    assert chunk.log_probs.isfinite().all()
    assert kind in CONTINUOUS or chunk.log_probs.max() <= 0  # densities may be above 1
    assert (chunk.sampled.dtype == torch.float32) == (kind in CONTINUOUS or kind in UNTRAINABLE)
    assert chunk.values is None
    assert not any(tensor.requires_grad for tensor in (chunk.actions, chunk.sampled, chunk.log_probs))
    factory = POLICIES.get(kind)
    settings = ModelConfig(path=str(folders[kind])), factory.describe(str(folders[kind]))
    tasks = observe(2).task_descriptions
    assert factory.longest_prompt(*settings, tasks) == max(map(policy.prompt_length, tasks))


@pytest.mark.parametrize("kind", TRAINABLE)
def test_evaluation_has_gradients_and_no_values_without_a_head(kind: str, folders: dict[str, Path]) -> None:
    policy = load(folders[kind], kind)
    inputs = policy.prepare(observe(2, wrist=True))
    result = policy.evaluate(inputs, policy.act(inputs, sampling(kind, [1, 2])).sampled, 1.3)
    tokens = policy.chunk_len * policy.action_dim
    for tensor in (result.log_probs, result.entropy):
        assert (tensor.shape, tensor.dtype, tensor.requires_grad) == ((2, tokens), torch.float32, True)
    assert result.entropy.isfinite().all()
    assert kind in CONTINUOUS or result.entropy.min() > 0
    assert result.values is None


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("kind", TRAINABLE)
def test_values_are_the_same_wherever_they_come_from(
    kind: str, head: ValueHeadSettings, folders: dict[str, Path]
) -> None:
    policy = load(folders[kind], kind, head)
    inputs = policy.prepare(observe(3, wrist=True))
    chunk = policy.act(inputs, sampling(kind, [1, 2, 3]))
    result = policy.evaluate(inputs, chunk.sampled, 1.3)
    alone = policy.value(inputs)
    assert result.values.requires_grad
    assert not chunk.values.requires_grad
    assert not alone.requires_grad
    for values in (chunk.values, result.values, alone):
        assert (values.shape, values.dtype) == ((3, head.outputs), torch.float32)
        torch.testing.assert_close(values.detach(), chunk.values, rtol=1e-5, atol=1e-5)
    assert chunk.values.std(dim=0).min() > 1e-3, "observations differ"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("do_sample", [True, False])
@pytest.mark.parametrize("kind", TRAINABLE)
def test_act_and_evaluate_agree_in_any_batch_with_any_padding(
    kind: str, dtype: str, do_sample: bool, folders: dict[str, Path]
) -> None:
    for head in HEADS[::2]:  # either position
        policy = load(folders[kind], kind, head, dtype)
        obs = observe(4, wrist=True)
        inputs = policy.prepare(obs)
        together = policy.act(inputs, Sampling(do_sample, 1.3, range(4)))
        near = (DENSITY_TOLERANCE if kind in CONTINUOUS else TOLERANCE)[dtype]

        def agrees(found: Any, row: int, expected: Any, of: int, within: float = near) -> bool:
            pairs = [(getattr(found, n)[row], getattr(expected, n)[of]) for n in ("log_probs", "values")]
            return all((a - b).abs().max() < within for a, b in pairs)

        now = policy.evaluate(inputs, together.sampled, 1.3)
        assert all(agrees(now, row, together, row) for row in range(4))
        alone, padded = policy.prepare(row_of(obs, 1)), select(inputs, [1])
        assert alone["input_ids"].shape[1] < padded["input_ids"].shape[1]
        for variant in (alone, padded, select(inputs, [1, 0, 3])):
            rows = len(variant["images"])
            found = policy.evaluate(variant, together.sampled[1:2].expand(rows, -1), 1.3)
            assert agrees(found, 0, together, 1)
            assert (policy.value(variant)[0] - together.values[1]).abs().max() < TOLERANCE[dtype]
            again = policy.act(variant, Sampling(do_sample, 1.3, [1] * rows))
            if dtype == "fp32":
                assert same_draws(kind, again.sampled[0], together.sampled[1])


@pytest.mark.parametrize("kind", TRAINABLE)
def test_a_row_is_drawn_by_its_seed_alone(kind: str, folders: dict[str, Path]) -> None:
    policy = load(folders[kind], kind)
    inputs = policy.prepare(observe(3, wrist=True))
    first = policy.act(inputs, Sampling(True, 1.6, [10, 11, 12]))
    again = policy.act(inputs, Sampling(True, 1.6, [10, 11, 12]))
    other = policy.act(inputs, Sampling(True, 1.6, [20, 11, 12]))
    assert torch.equal(again.sampled, first.sampled)
    assert torch.equal(again.log_probs, first.log_probs)
    assert not torch.equal(other.sampled[0], first.sampled[0])
    assert torch.equal(other.sampled[1:], first.sampled[1:])
    for row in range(3):
        alone = policy.act(select(inputs, [row]), Sampling(True, 1.6, [10 + row]))
        assert same_draws(kind, alone.sampled[0], first.sampled[row])


@pytest.mark.parametrize("kind", KINDS)
def test_without_sampling_a_row_depends_on_its_observation_alone(kind: str, folders: dict[str, Path]) -> None:
    policy = load(folders[kind], kind)
    obs = observe(3, wrist=True)
    together = policy.act(policy.prepare(obs), Sampling(False, 1.0, [1, 2, 3])).actions
    for row in range(3):
        alone = policy.act(policy.prepare(row_of(obs, row)), Sampling(False, 1.0, [7])).actions
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)
    assert not torch.equal(together[0], together[1])


def state(policy: Any) -> dict[str, Tensor]:
    return policy.model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_policy_loads_back_bit_for_bit_with_and_without_its_value_head(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    head = HEAD if kind in TRAINABLE else None
    policy = load(folders[kind], kind, head)
    policy.save(str(tmp_path))
    factory = POLICIES.get(kind)
    settings = ModelConfig(path=str(tmp_path), dtype="fp32"), factory.describe(str(tmp_path)), CPU
    again, plain = factory.load(*settings, value_head=head), factory.load(*settings)
    for loaded, names in ((again, {*state(policy)}), (plain, {n for n in state(policy) if "value_head" not in n})):
        assert state(loaded).keys() == names
        assert all(torch.equal(tensor, state(policy)[name]) for name, tensor in state(loaded).items())
    inputs = policy.prepare(observe(2, wrist=True))
    chunks = [p.act(inputs, sampling(kind, [1, 2])) for p in (policy, again, plain)]
    assert all(torch.equal(chunk.actions, chunks[0].actions) for chunk in chunks)
    if head is not None:
        assert torch.equal(chunks[1].values, chunks[0].values)


@pytest.mark.parametrize("kind", UNTRAINABLE)
def test_what_cannot_be_trained_says_so_and_takes_no_value_head(kind: str, folders: dict[str, Path]) -> None:
    factory, policy = POLICIES.get(kind), load(folders[kind], kind)
    inputs = policy.prepare(observe(1, wrist=True))
    sampled = policy.act(inputs, sampling(kind, [1])).sampled
    for ask in (lambda: policy.evaluate(inputs, sampled, 1.0), lambda: policy.value(inputs)):
        with pytest.raises(ValueError, match=factory.untrainable):
            ask()
    model, embodied = ModelConfig(path=str(folders[kind])), factory.describe(str(folders[kind]))
    with pytest.raises(ValueError, match=rf"'{kind}' takes no value head: .* critic\.use_critic_model=false"):
        factory.load(model, embodied, CPU, value_head=HEAD)
    with pytest.raises(ValueError, match=rf"'{kind}' takes no value head"):
        factory.longest_prompt(model, embodied, [""], HEAD)
