"""The value loss and the explained variance beside the float64 reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from siirl.algorithms.value_loss import explained_variance, explained_variance_sums, value_loss
from tests.algorithms import reference

clips = st.sampled_from((None, 0.05, 0.2, 1.0))
deltas = st.sampled_from((0.1, 0.5, 10.0))


@st.composite
def estimates(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, old values, returns and mask [B, V]; what is inactive is NaN or infinite."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    mask = torch.rand(shape, generator=generator) < draw(st.sampled_from((0.0, 0.5, 1.1)))
    garbage = torch.tensor([math.nan, math.inf, -math.inf, 1e300], dtype=torch.float64)
    numbers = []
    for spread in (0.5, 0.5, draw(st.sampled_from((0.0, 0.5, 20.0)))):
        x = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        x[~mask] = garbage[torch.randint(4, (int((~mask).sum()),), generator=generator)]
        numbers.append(x)
    return *numbers, mask


@given(batch=estimates(), clip=clips, delta=deltas, size=st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_sums_and_gradients_are_those_of_the_reference(
    batch: tuple[Tensor, Tensor, Tensor, Tensor], clip: float | None, delta: float, size: int
) -> None:
    values, old, returns, mask = batch
    values.requires_grad_()
    parts = [value_loss(*(x[i : i + size] for x in batch), clip, delta) for i in range(0, len(mask), size)]
    torch.stack([part.loss_sum for part in parts]).sum().backward()
    assert values.grad is not None
    assert (values.grad[~mask] == 0).all()
    total = stopped = 0.0
    for b, k in mask.nonzero().tolist():
        v, o, r = (float(x[b, k].detach()) for x in (values, old, returns))

        def error(x: float, o: float = o, r: float = r) -> float:
            return reference.value_error(x, o, r, clip, delta)

        total += error(v)
        stopped += clip is not None and error(v) > reference.huber(v - r, delta)
        slope = reference.slope(error, v)
        smooth = math.isclose(slope, reference.slope(error, v, step=1e-5), rel_tol=1e-5, abs_tol=1e-5)
        if smooth:
            assert math.isclose(float(values.grad[b, k]), slope, rel_tol=1e-6, abs_tol=1e-6)
    assert math.isclose(sum(float(part.loss_sum) for part in parts), total, rel_tol=1e-6, abs_tol=1e-6)
    assert sum(float(part.clipped_sum) for part in parts) == stopped <= mask.sum()


def test_the_clip_stops_a_value_that_has_gone_far_enough_towards_its_return_and_no_other() -> None:
    values = torch.tensor([[0.5, -0.5, 0.1]], requires_grad=True)
    one = torch.ones(1, 3, dtype=torch.bool)
    loss = value_loss(values, torch.zeros(1, 3), torch.ones(1, 3), one, clip=0.2, huber_delta=10.0)
    loss.loss_sum.backward()
    assert float(loss.loss_sum.detach()) == pytest.approx((0.8**2 + 1.5**2 + 0.9**2) / 2)
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, -1.5, -0.9]]))
    assert loss.clipped_sum == 1


@given(batch=estimates(), size=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_explained_variance_of_micro_batches_is_that_of_all(
    batch: tuple[Tensor, Tensor, Tensor, Tensor], size: int
) -> None:
    values, _, returns, mask = batch
    parts = [
        explained_variance_sums(*(x[i : i + size] for x in (returns, values, mask))) for i in range(0, len(mask), size)
    ]
    found = explained_variance(torch.stack(parts).sum(0))
    assert found <= 1
    r, v = returns[mask].numpy(), values[mask].numpy()
    if len(r) > 1 and np.var(r) > 0:
        assert math.isclose(found, reference.explained_variance(r, v), rel_tol=1e-6, abs_tol=1e-6)
    else:
        assert found == 0


@pytest.mark.parametrize(
    ("values", "explained"),
    [([1.0, 2.0, 4.0], 1.0), ([0.0, 1.0, 3.0], 1.0), ([7.0, 7.0, 7.0], 0.0), ([-1.0, -2.0, -4.0], -3.0)],
)
def test_explained_variance_by_hand(values: list[float], explained: float) -> None:
    """A constant offset costs nothing; a constant explains nothing; the opposite explains less than nothing."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    sums = explained_variance_sums(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([values]), mask)
    assert explained_variance(sums) == pytest.approx(explained)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.7, 1e4])
def test_equal_returns_have_no_variance_whatever_their_rounding(constant: float) -> None:
    """A thousand micro-batches of one: the sums of 0.1 and 0.7 have a variance of about 1e-15 by rounding."""
    one = explained_variance_sums(torch.full((1, 1), constant), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    sums = torch.zeros(5, dtype=torch.float64)
    for _ in range(1000):
        sums += one
    assert explained_variance(sums) == 0
