import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from siirl.algorithms.losses import PolicyLoss, behavior_gap, decoupled_clip_loss, ppo_clip_loss

LOW, HIGH = 0.2, 0.28


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, tokens = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    new = -3 * torch.rand(rows, tokens, generator=generator)
    old = new + 0.4 * torch.randn(rows, tokens, generator=generator)
    advantages = torch.randn(rows, generator=generator).round(decimals=1)
    mask = torch.rand(rows, tokens, generator=generator) < draw(st.floats(0.1, 1.0))
    return new, old, advantages, mask


def naive(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor) -> dict[str, float]:
    """The same sums, token by token in plain Python."""
    sums = dict.fromkeys(("loss", "clipped", "kl", "deviation"), 0.0)
    for b in range(new.shape[0]):
        for k in range(new.shape[1]):
            if mask[b, k]:
                log_ratio = float(new[b, k].double() - old[b, k].double())
                ratio, a = math.exp(log_ratio), float(advantages[b])
                bounded = min(max(ratio, 1 - LOW), 1 + HIGH)
                sums["loss"] -= min(ratio * a, bounded * a)
                sums["clipped"] += (a > 0 and ratio > 1 + HIGH) or (a < 0 and ratio < 1 - LOW)
                sums["kl"] += ratio - 1 - log_ratio
                sums["deviation"] += abs(ratio - 1)
    return sums


def as_dict(loss: PolicyLoss) -> dict[str, float]:
    return {
        "loss": float(loss.loss_sum.detach()),
        "clipped": float(loss.clipped_sum),
        "kl": float(loss.kl_sum),
        "deviation": float(loss.ratio_deviation_sum),
    }


@given(batches(), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_micro_batches_of_any_size_add_up_to_the_naive_mini_batch(
    batch: tuple[Tensor, Tensor, Tensor, Tensor], size: int
) -> None:
    parts = [ppo_clip_loss(*(x[i : i + size] for x in batch), LOW, HIGH) for i in range(0, len(batch[0]), size)]
    expected = naive(*batch)
    for name, value in expected.items():
        assert math.isclose(sum(as_dict(p)[name] for p in parts), value, rel_tol=1e-4, abs_tol=1e-4), name


@given(batches())
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_zero_exactly_where_the_clip_is_in_force_or_the_token_is_inactive(
    batch: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    new, old, advantages, mask = batch
    new.requires_grad_()
    loss = ppo_clip_loss(new, old, advantages, mask, LOW, HIGH)
    loss.loss_sum.backward()
    ratio, a = (new - old).detach().exp(), advantages[:, None].expand_as(new)
    clipped = ((a > 0) & (ratio > 1 + HIGH)) | ((a < 0) & (ratio < 1 - LOW))
    expected = torch.where(mask & ~clipped, -ratio * a, 0.0)
    torch.testing.assert_close(new.grad, expected)
    assert loss.clipped_sum == (clipped & mask).sum()
    assert loss.clipped_sum <= mask.sum()


def test_an_unmoved_policy_has_zero_kl_and_clip_and_the_plain_policy_gradient() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    advantages = torch.tensor([1.5, -0.5])
    loss = ppo_clip_loss(log_probs, log_probs.detach(), advantages, torch.ones(2, 2, dtype=torch.bool), LOW, HIGH)
    assert as_dict(loss) == {"loss": -2.0, "clipped": 0.0, "kl": 0.0, "deviation": 0.0}
    loss.loss_sum.backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([[-1.5, -1.5], [0.5, 0.5]]))


def test_what_inactive_tokens_hold_changes_nothing() -> None:
    new = torch.tensor([[-1.0, 500.0]], requires_grad=True)
    old = torch.tensor([[-1.1, -500.0]])
    mask = torch.tensor([[True, False]])
    loss = ppo_clip_loss(new, old, torch.tensor([-1.0]), mask, LOW, HIGH)
    loss.loss_sum.backward()
    assert math.isclose(float(loss.loss_sum.detach()), math.exp(0.1), rel_tol=1e-6)
    assert new.grad is not None
    assert new.grad[0, 1] == 0
    assert torch.isfinite(new.grad).all()


def test_the_upper_bound_is_wider_than_the_lower_one() -> None:
    old = torch.zeros(1, 1)
    mask = torch.ones(1, 1, dtype=torch.bool)
    for ratio, advantage, clipped in ((1.25, 1.0, 0), (1.3, 1.0, 1), (0.79, -1.0, 1), (0.81, -1.0, 0), (0.5, 1.0, 0)):
        loss = ppo_clip_loss(torch.tensor([[math.log(ratio)]]), old, torch.tensor([advantage]), mask, LOW, HIGH)
        assert loss.clipped_sum == clipped, (ratio, advantage)


@given(batches(), st.floats(1, 10))
@settings(max_examples=60, deadline=None)
def test_where_the_policy_before_the_update_acted_the_loss_is_the_plain_one_to_the_bit(
    batch: tuple[Tensor, Tensor, Tensor, Tensor], cap: float
) -> None:
    new, old, advantages, mask = batch
    ways = [new.clone().requires_grad_() for _ in range(2)]
    plain = ppo_clip_loss(ways[0], old, advantages, mask, LOW, HIGH)
    decoupled, gap = decoupled_clip_loss(ways[1], old, old, advantages, mask, LOW, HIGH, cap)
    for loss in (plain, decoupled):
        loss.loss_sum.backward()
    assert as_dict(plain) == as_dict(decoupled)
    assert ways[0].grad is not None
    assert ways[1].grad is not None
    assert torch.equal(ways[0].grad, ways[1].grad)
    assert (gap.weights == 1).all()
    assert (float(gap.weight_sum), float(gap.kl_sum)) == (mask.sum(), 0)


@given(batches(), st.floats(1, 3), st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_token_is_weighed_by_the_capped_ratio_of_before_to_behaviour(
    batch: tuple[Tensor, Tensor, Tensor, Tensor], cap: float, spread: float
) -> None:
    new, proximal, advantages, mask = batch
    behavior = proximal + spread * torch.sin(torch.arange(new.numel()) * 1.7).view_as(new)
    loss, gap = decoupled_clip_loss(new, proximal, behavior, advantages, mask, LOW, HIGH, cap)
    expected = weight = kl = 0.0
    for b in range(new.shape[0]):
        for k in range(new.shape[1]):
            if mask[b, k]:
                stale = float(proximal[b, k].double() - behavior[b, k].double())
                w, ratio, a = (
                    min(math.exp(stale), cap),
                    math.exp(float(new[b, k] - proximal[b, k])),
                    float(advantages[b]),
                )
                expected -= w * min(ratio * a, min(max(ratio, 1 - LOW), 1 + HIGH) * a)
                weight, kl = weight + w, kl + math.exp(stale) - 1 - stale
    assert math.isclose(float(loss.loss_sum), expected, rel_tol=1e-4, abs_tol=1e-4)
    assert math.isclose(float(gap.weight_sum), weight, rel_tol=1e-4, abs_tol=1e-5)
    assert math.isclose(float(gap.kl_sum), kl, rel_tol=1e-3, abs_tol=1e-4)
    assert float(gap.kl_sum) >= 0
    assert ((gap.weights >= 0) & (gap.weights <= cap)).all()


def test_a_decoupled_loss_by_hand() -> None:
    """π_prox twice, half and ten times as likely as what acted, and the policy since moved by 1, 1.5 and 1 / 2."""
    behavior = torch.log(torch.tensor([[0.1, 0.2, 0.05]]))
    proximal = torch.log(torch.tensor([[0.2, 0.1, 0.5]]))
    new = torch.log(torch.tensor([[0.2, 0.15, 0.25]])).requires_grad_()
    mask = torch.ones(1, 3, dtype=torch.bool)
    loss, gap = decoupled_clip_loss(new, proximal, behavior, torch.tensor([2.0]), mask, 0.2, 0.28, cap=5.0)
    torch.testing.assert_close(gap.weights, torch.tensor([[2.0, 0.5, 5.0]]))
    # −2·(2·1 + 0.5·1.28 + 5·0.5): the second is clipped
    assert math.isclose(float(loss.loss_sum.detach()), -2 * (2 + 0.5 * 1.28 + 2.5), rel_tol=1e-6)
    assert (float(loss.clipped_sum), float(gap.weight_sum)) == (1, 7.5)
    loss.loss_sum.backward()
    torch.testing.assert_close(new.grad, torch.tensor([[-4.0, 0.0, -5.0]]))
    assert math.isclose(float(gap.kl_sum), (1 - math.log(2)) + (-0.5 + math.log(2)) + (9 - math.log(10)), rel_tol=1e-5)


def test_a_weight_is_capped_however_unlikely_the_draw_was() -> None:
    mask = torch.tensor([[True, False]])
    gap = behavior_gap(torch.tensor([[-1.0, -1.0]]), torch.tensor([[-500.0, math.nan]]), mask, cap=3.0)
    assert gap.weights.tolist() == [[3.0, 1.0]]
    assert gap.weight_sum == 3.0
