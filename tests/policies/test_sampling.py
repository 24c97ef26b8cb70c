"""Drawing from the likeliest bins: what may be drawn, how often, and which log-probs are recorded."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from siirl.config.schema import RolloutConfig, ValKwargsConfig
from siirl.policies.base import Sampling
from siirl.policies.prismatic.policy import PrismaticPolicy
from siirl.policies.prismatic.sampling import draw, invert, truncate
from tests.policies.observations import observe, select

LOGITS = st.lists(st.floats(-12, 12, width=16), min_size=2, max_size=20)  # coarse, so that some are equal
TOP_K = st.just(-1) | st.integers(1, 24)
TOP_P = st.just(1.0) | st.floats(0.001, 0.999)
LARGEST = 1 - 2**-53  # of the uniform numbers


def allowed(log_probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Which bins may be drawn, bool."""
    return truncate(log_probs, top_k, top_p).isfinite()


@given(logits=LOGITS, top_k=TOP_K, top_p=TOP_P)
def test_the_likeliest_bins_are_left_and_no_more_than_needed(logits: list[float], top_k: int, top_p: float) -> None:
    log_probs = torch.tensor(logits).double().log_softmax(-1)
    kept = allowed(log_probs, top_k, top_p)
    assert torch.equal(truncate(log_probs, top_k, top_p)[kept], log_probs[kept])
    assert log_probs[kept].min() >= log_probs[~kept].max() if (~kept).any() else True
    most = len(logits) if top_k < 0 else min(top_k, len(logits))
    assert 1 <= kept.sum() <= most
    probabilities = log_probs.exp() / log_probs.exp().sort(descending=True).values[:most].sum()
    mass = float(probabilities[kept].sum())
    assert mass >= top_p - 1e-9
    assert top_p == 1 or mass - float(probabilities[kept].min()) < top_p + 1e-9
    if top_p == 1:
        assert kept.sum() == most


@given(logits=LOGITS, top_k=TOP_K, top_p=TOP_P, uniform=st.floats(0, LARGEST) | st.just(LARGEST))
def test_no_other_bin_is_ever_drawn(logits: list[float], top_k: int, top_p: float, uniform: float) -> None:
    log_probs = torch.tensor(logits).log_softmax(-1)
    drawn = invert(truncate(log_probs, top_k, top_p), torch.tensor(uniform, dtype=torch.float64))
    assert allowed(log_probs, top_k, top_p)[drawn]


@given(logits=LOGITS, top_k=TOP_K, top_p=TOP_P)
def test_frequencies_are_those_of_the_renormalised_distribution(logits: list[float], top_k: int, top_p: float) -> None:
    count = 1000
    log_probs = torch.tensor(logits).double().log_softmax(-1)
    kept = allowed(log_probs, top_k, top_p)
    evenly = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = invert(truncate(log_probs, top_k, top_p).expand(count, -1), evenly)
    expected = torch.where(kept, log_probs.exp(), 0)
    frequencies = torch.bincount(drawn, minlength=len(logits)) / count
    torch.testing.assert_close(frequencies.double(), expected / expected.sum(), atol=1.01 / count, rtol=0)


@given(logits=LOGITS, seed=st.integers(0, 2**63 - 1))
def test_top_k_of_one_is_the_mode(logits: list[float], seed: int) -> None:
    log_probs = torch.tensor(logits).log_softmax(-1)
    assert draw(truncate(log_probs, 1, 1.0)[None, None], [seed]).item() == log_probs.argmax()


@given(logits=LOGITS, seed=st.integers(0, 2**63 - 1))
def test_switched_off_nothing_changes(logits: list[float], seed: int) -> None:
    log_probs = torch.tensor(logits).log_softmax(-1)[None, None]
    assert truncate(log_probs, -1, 1.0) is log_probs
    assert torch.equal(draw(truncate(log_probs, len(logits), 1.0), [seed]), draw(log_probs, [seed]))


def test_a_bin_without_probability_is_not_reached_by_rounding() -> None:
    log_probs = torch.tensor([0.5, -torch.inf]).double()
    log_probs[0] = torch.tensor(0.5).double().log()
    assert invert(log_probs, torch.tensor(LARGEST, dtype=torch.float64)) == 0


@pytest.mark.parametrize("settings", [(5, 1.0), (-1, 0.9), (5, 0.9)])
def test_a_row_that_is_not_finite_draws_some_bin(settings: tuple[int, float]) -> None:
    assert 0 <= draw(truncate(torch.full((1, 1, 256), torch.nan), *settings), [0]).item() < 256


@pytest.mark.parametrize("settings", [RolloutConfig, ValKwargsConfig])
def test_every_setting_of_the_config_is_taken(settings: Callable[..., RolloutConfig | ValKwargsConfig]) -> None:
    given = settings(do_sample=True, temperature=0.7, top_k=5, top_p=0.9)
    assert Sampling.of(given) == Sampling(do_sample=True, temperature=0.7, top_k=5, top_p=0.9)


@pytest.mark.parametrize("settings", [{"top_k": 3}, {"top_p": 0.5}])
def test_a_policy_draws_from_the_likeliest_bins_alone(either: PrismaticPolicy, settings: dict) -> None:
    inputs, seeds = either.prepare(observe(3)), [1, 2, 3]
    anything = either.act(inputs, Sampling(True, 1.3, seeds))
    chunk = either.act(inputs, Sampling(True, 1.3, seeds, **settings))
    assert not torch.equal(chunk.sampled, anything.sampled)
    assert chunk.log_probs.sum() > anything.log_probs.sum()
    for row, seed in enumerate(seeds):
        alone = either.act(select(inputs, [row]), Sampling(True, 1.3, [seed], **settings))
        assert torch.equal(alone.sampled[0], chunk.sampled[row])


def test_the_likeliest_bin_of_all_is_what_top_k_of_one_draws(either: PrismaticPolicy) -> None:
    inputs = either.prepare(observe(3))
    chunk = either.act(inputs, Sampling(True, 1.3, [1, 2, 3], top_k=1))
    assert torch.equal(chunk.sampled, either.act(inputs, Sampling(True, 1.3, [7, 8, 9], top_p=1e-9)).sampled)
    for other in range(256):  # no bin of the first token, given nothing before it, is likelier
        changed = chunk.sampled.clone()
        changed[:, 0] = other
        assert (either.evaluate(inputs, changed, 1.3).log_probs[:, 0] <= chunk.log_probs[:, 0] + 1e-5).all()


def test_log_probs_are_of_the_whole_distribution_in_rollout_and_update(either: PrismaticPolicy) -> None:
    inputs = either.prepare(observe(3))
    chunk = either.act(inputs, Sampling(True, 1.3, [1, 2, 3], top_k=1, top_p=0.9))
    now = either.evaluate(inputs, chunk.sampled, 1.3)
    assert (now.log_probs - chunk.log_probs).abs().max() < 2e-5
    assert chunk.log_probs.max() < 0, "renormalised, every token would have probability 1"
    now.log_probs.sum().backward()
    assert all(p.grad.isfinite().all() for p in either.model.parameters() if p.grad is not None)
