"""The KL penalty: its estimators as numbers and as losses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.algorithms.kl import kl_penalty
from tests.algorithms import reference
from tests.algorithms.strategies import Tokens, tokens

ESTIMATORS = {"k1": reference.k1, "k2": reference.k2, "k3": reference.k3}


@pytest.mark.parametrize("kind", ESTIMATORS)
@given(batch=tokens(), size=st.integers(1, 5), weighted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_sums_and_gradients_are_those_of_the_reference(kind: str, batch: Tokens, size: int, weighted: bool) -> None:
    now = batch.now.clone().requires_grad_()
    weights = torch.arange(1.0, len(now) + 1, dtype=torch.float64) if weighted else None
    total = torch.zeros((), dtype=torch.float64)
    for i in range(0, len(now), size):
        part = slice(i, i + size)
        own = None if weights is None else weights[part]
        total = total + kl_penalty(now[part], batch.before[part], batch.mask[part], kind, own)
    total.backward()
    assert now.grad is not None
    assert (now.grad[~batch.mask] == 0).all()
    expected = 0.0
    for b, k in batch.mask.nonzero().tolist():
        log_r, weight = float(batch.before[b, k] - batch.now[b, k]), 1.0 if weights is None else float(weights[b])
        expected += weight * ESTIMATORS[kind](log_r)
        slope = -weight * reference.slope(ESTIMATORS[kind], log_r)  # log r falls as log π rises
        assert math.isclose(float(now.grad[b, k]), slope, rel_tol=1e-6, abs_tol=1e-6)
    assert math.isclose(float(total.detach()), expected, rel_tol=1e-6, abs_tol=1e-6)


@given(batch=tokens(dtype=torch.float32))
@settings(max_examples=60, deadline=None)
def test_k2_and_k3_are_never_negative(batch: Tokens) -> None:
    for kind in ("k2", "k3"):
        assert kl_penalty(batch.now, batch.before, batch.mask, kind) >= 0
        nearly = batch.now + 1e-7
        assert kl_penalty(batch.now, nearly, batch.mask, kind) >= 0


def mean_over_draws(kind: str, logits: torch.Tensor, ref: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The estimator's mean and its gradient's mean over all draws of the policy, exactly."""
    log_probs = logits.log_softmax(0)
    draws = log_probs.exp().detach()
    mask = torch.ones(1, 1, dtype=torch.bool)
    each = [kl_penalty(log_probs[i].view(1, 1), ref[i].view(1, 1), mask, kind) for i in range(len(logits))]
    mean = (torch.stack(each) * draws).sum()
    (gradient,) = torch.autograd.grad(mean, logits)
    return float(mean.detach()), gradient


def test_which_estimator_has_which_mean_and_which_gradient() -> None:
    """What the docstring says, over all draws of four actions."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([1.0, 0.5, -0.5, 0.2], dtype=torch.float64).log_softmax(0)
    log_probs = logits.log_softmax(0)
    divergence = (log_probs.exp() * (log_probs - ref)).sum()
    (own,) = torch.autograd.grad(divergence, logits, retain_graph=True)
    (other_way,) = torch.autograd.grad((ref.exp() * (ref - log_probs)).sum(), logits)
    means, gradients = {}, {}
    for kind in ESTIMATORS:
        means[kind], gradients[kind] = mean_over_draws(kind, logits, ref)
    assert means["k1"] == pytest.approx(float(divergence))
    assert means["k3"] == pytest.approx(float(divergence))
    assert means["k2"] != pytest.approx(float(divergence), rel=1e-2)
    torch.testing.assert_close(gradients["k1"], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(gradients["k2"], own)
    torch.testing.assert_close(gradients["k3"], other_way)
    assert (own - other_way).abs().max() > 0.1


def test_a_reference_far_away_overflows_nothing() -> None:
    now = torch.tensor([[-1e3, -1.0]], requires_grad=True)
    loss = kl_penalty(now, torch.tensor([[-1.0, -1e3]]), torch.ones(1, 2, dtype=torch.bool), "k3")
    loss.backward()
    assert torch.isfinite(loss)
    assert now.grad is not None
    assert now.grad.tolist() == [[0, 1]], "beyond the bound on ratios nothing pulls, least of all further away"
