"""Clipped losses of tokens, actions and chunks beside the float64 reference: values, gradients, metrics."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from siirl.algorithms.levels import at_level
from siirl.algorithms.losses import PolicyLoss, decoupled_clip_loss, episode_weight, ppo_clip_loss
from tests.algorithms import reference
from tests.algorithms.strategies import Tokens, tokens

LOW, HIGH = 0.2, 0.28
LEVELS = ("token_level", "action_level", "chunk_level")
dual_clips = st.sampled_from((None, 1.1, 1.5, 3.0))


def ratios(batch: Tokens, above: Tensor, below: Tensor, level: str) -> list[tuple[int, int, float]]:
    """(row, unit, log ratio) of the active units."""
    size = {"token_level": 1, "action_level": batch.action_dim, "chunk_level": batch.mask.shape[1]}[level]
    above, below = (torch.where(batch.mask, x, 0.0) for x in (above, below))
    return reference.units((above - below).numpy(), batch.mask.numpy(), size)


def ppo(batch: Tokens, level: str, clip_c: float | None, now: Tensor | None = None) -> PolicyLoss:
    """The loss of the code under test."""
    new, mask = at_level(batch.now if now is None else now, batch.mask, level, batch.action_dim)
    old, _ = at_level(batch.before, batch.mask, level, batch.action_dim)
    return ppo_clip_loss(new, old, batch.advantages, mask, LOW, HIGH, clip_c)


def expected(batch: Tokens, level: str, clip_c: float | None) -> dict[str, float]:
    """Its sums, unit by unit."""
    sums = dict.fromkeys(("loss", "clipped", "dual_clipped", "kl", "deviation"), 0.0)
    for b, _, log_ratio in ratios(batch, batch.now, batch.before, level):
        ratio, a = math.exp(log_ratio), float(batch.advantages[b])
        sums["loss"] -= reference.clip_objective(ratio, a, LOW, HIGH, clip_c)
        sums["clipped"] += (a > 0 and ratio > 1 + HIGH) or (a < 0 and ratio < 1 - LOW)
        sums["dual_clipped"] += clip_c is not None and a < 0 and ratio > clip_c
        sums["kl"] += reference.k3(log_ratio)
        sums["deviation"] += abs(ratio - 1)
    return sums


def sums_of(loss: PolicyLoss) -> dict[str, float]:
    names = ("loss", "clipped", "dual_clipped", "kl")
    found = {name: float(getattr(loss, f"{name}_sum").detach()) for name in names}
    return found | {"deviation": float(loss.ratio_deviation_sum)}


@pytest.mark.parametrize("level", LEVELS)
@given(batch=tokens(), clip_c=dual_clips, size=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_micro_batches_of_any_size_add_up_to_the_reference(
    level: str, batch: Tokens, clip_c: float | None, size: int
) -> None:
    with torch.no_grad():
        parts = [sums_of(ppo(batch.rows(i, i + size), level, clip_c)) for i in range(0, len(batch.mask), size)]
    for name, value in expected(batch, level, clip_c).items():
        assert math.isclose(sum(part[name] for part in parts), value, rel_tol=1e-6, abs_tol=1e-6), name


@pytest.mark.parametrize("level", LEVELS)
@given(batch=tokens(), clip_c=dual_clips)
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_the_slope_of_the_reference(level: str, batch: Tokens, clip_c: float | None) -> None:
    now = batch.now.clone().requires_grad_()
    ppo(batch, level, clip_c, now).loss_sum.backward()
    assert now.grad is not None
    assert (now.grad[~batch.mask] == 0).all()
    size = {"token_level": 1, "action_level": batch.action_dim, "chunk_level": batch.mask.shape[1]}[level]
    for b, m, log_ratio in ratios(batch, batch.now, batch.before, level):
        a = float(batch.advantages[b])
        if any(abs(log_ratio - math.log(kink)) < 1e-4 for kink in (1 - LOW, 1 + HIGH, clip_c or 2)):
            continue  # no slope

        def loss(x: float, a: float = a) -> float:
            return -reference.clip_objective(math.exp(x), a, LOW, HIGH, clip_c)

        slope = reference.slope(loss, log_ratio)
        for k in range(m * size, (m + 1) * size):
            if batch.mask[b, k]:
                assert math.isclose(float(now.grad[b, k]), slope, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
@given(batch=tokens(dtype=torch.float32), clip_c=dual_clips)
@settings(max_examples=60, deadline=None)
def test_metrics_keep_to_their_ranges(level: str, batch: Tokens, clip_c: float | None) -> None:
    sums = sums_of(ppo(batch, level, clip_c))
    units = len(ratios(batch, batch.now, batch.before, level))
    assert 0 <= sums["clipped"] <= sums["clipped"] + sums["dual_clipped"] <= units
    assert sums["kl"] >= 0
    assert sums["deviation"] >= 0
    assert all(math.isfinite(value) for value in sums.values())


@pytest.mark.parametrize("level", LEVELS)
@given(batch=tokens(), clip_c=dual_clips, cap=st.sampled_from((1.0, 1.3, 5.0)))
@settings(max_examples=60, deadline=None)
def test_units_that_other_weights_acted_are_weighed_by_their_own_ratio(
    level: str, batch: Tokens, clip_c: float | None, cap: float
) -> None:
    names = (batch.now, batch.before, batch.acted)
    now, before, acted = (at_level(x, batch.mask, level, batch.action_dim)[0] for x in names)
    _, mask = at_level(batch.now, batch.mask, level, batch.action_dim)
    loss, gap = decoupled_clip_loss(now, before, acted, batch.advantages, mask, LOW, HIGH, cap, clip_c)
    total = weight = kl = 0.0
    moved = ratios(batch, batch.now, batch.before, level)
    for (b, _, log_ratio), (_, _, stale) in zip(moved, ratios(batch, batch.before, batch.acted, level), strict=True):
        w = min(math.exp(stale), cap)
        total -= w * reference.clip_objective(math.exp(log_ratio), float(batch.advantages[b]), LOW, HIGH, clip_c)
        weight, kl = weight + w, kl + reference.k3(stale)
    assert math.isclose(float(loss.loss_sum), total, rel_tol=1e-6, abs_tol=1e-6)
    assert math.isclose(float(gap.weight_sum), weight, rel_tol=1e-6, abs_tol=1e-6)
    assert math.isclose(float(gap.kl_sum), kl, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("clip_c", [None, 3.0])
@pytest.mark.parametrize("log_ratio", [50.0, 100.0, 1e4, math.inf, -1e4, -math.inf])
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
def test_no_ratio_overflows(log_ratio: float, advantage: float, clip_c: float | None) -> None:
    new = torch.tensor([[0.0]], requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.bool)
    loss = ppo_clip_loss(new, torch.tensor([[-log_ratio]]), torch.tensor([advantage]), one, LOW, HIGH, clip_c)
    loss.loss_sum.backward()
    assert new.grad is not None
    assert torch.isfinite(new.grad).all()
    total = float(loss.loss_sum.detach())
    assert math.isfinite(total)
    assert math.isfinite(loss.ratio_deviation_sum)
    if advantage < 0 and clip_c and log_ratio > 0:
        assert (total, float(loss.dual_clipped_sum), float(new.grad)) == (3, 1, 0)
    if advantage > 0 and log_ratio > 0:
        assert (total, float(loss.clipped_sum), float(new.grad)) == (pytest.approx(-1 - HIGH), 1, 0)


def test_the_dual_clip_bounds_the_loss_of_a_bad_draw_alone() -> None:
    log_ratios = torch.tensor([[4.0, 4.0, 2.9, 0.5]]).log().requires_grad_()
    mask = torch.ones(1, 4, dtype=torch.bool)
    loss = ppo_clip_loss(log_ratios, torch.zeros(1, 4), torch.tensor([[-2.0, 2.0, -2.0, -2.0]]), mask, LOW, HIGH, 3.0)
    loss.loss_sum.backward()
    # bounded by 3·2; clipped at 1.28·2; 2.9·2, in between; clipped at 0.8·2
    assert float(loss.loss_sum.detach()) == pytest.approx(6 - 2.56 + 5.8 + 1.6)
    torch.testing.assert_close(log_ratios.grad, torch.tensor([[0.0, 0.0, 5.8, 0.0]]))
    assert (loss.clipped_sum, loss.dual_clipped_sum) == (2, 1)


def test_advantages_of_actions_go_to_their_tokens() -> None:
    log_probs = torch.zeros(1, 4, requires_grad=True)
    mask = torch.tensor([[True, True, True, False]])
    advantages = torch.tensor([[1.0, -2.0]])
    ppo_clip_loss(log_probs, torch.zeros(1, 4), advantages, mask, LOW, HIGH).loss_sum.backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [[-1, -1, 2, 0]]


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_weights_of_episodes_make_the_mean_over_units_the_one_asked_for(counts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    losses = [torch.rand(count, generator=generator, dtype=torch.float64) for count in counts]
    total = sum(counts)
    for mode, mean in (
        ("token-mean", torch.cat(losses).mean()),
        ("seq-mean-token-mean", torch.stack([x.mean() for x in losses]).mean()),
    ):
        weights = [episode_weight(count, total, len(counts), mode) for count in counts]
        weighted = sum(w * x.sum() for w, x in zip(weights, losses, strict=True)) / total
        assert math.isclose(weighted, mean, rel_tol=1e-12)
