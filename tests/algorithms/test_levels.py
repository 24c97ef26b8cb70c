"""Units of the loss: tokens, actions, chunks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from siirl.algorithms.levels import at_level, level_mask, to_units
from tests.algorithms import reference
from tests.algorithms.strategies import Tokens, tokens

LEVELS = ("token_level", "action_level", "chunk_level")


@pytest.mark.parametrize("level", LEVELS)
@given(batch=tokens())
@settings(max_examples=60, deadline=None)
def test_a_unit_is_the_sum_of_its_active_tokens(level: str, batch: Tokens) -> None:
    count = batch.mask.shape[1]
    size = {"token_level": 1, "action_level": batch.action_dim, "chunk_level": count}[level]
    summed, active = at_level(batch.now, batch.mask, level, batch.action_dim)
    expected = np.zeros((len(batch.mask), count // size))
    used = np.zeros(expected.shape, bool)
    for b, m, total in reference.units(batch.now.numpy(), batch.mask.numpy(), size):
        expected[b, m], used[b, m] = total, True
    np.testing.assert_array_equal(active.numpy(), used)
    np.testing.assert_array_equal(level_mask(batch.mask, level, batch.action_dim).numpy(), used)
    np.testing.assert_allclose(torch.where(active, summed, 0.0).numpy(), expected, rtol=1e-12)


def test_tokens_are_left_as_they_are() -> None:
    x, mask = torch.tensor([[1.0, math.nan]]), torch.tensor([[True, False]])
    found = at_level(x, mask, "token_level", 2)
    assert found[0] is x
    assert found[1] is mask


@pytest.mark.parametrize("level", ["action_level", "chunk_level"])
def test_an_inactive_token_has_no_gradient(level: str) -> None:
    x = torch.tensor([[1.0, math.inf, math.nan, -math.inf]], requires_grad=True)
    summed, active = at_level(x, torch.tensor([[True, False, False, False]]), level, 2)
    torch.where(active, summed.exp(), 0.0).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[math.e, 0.0, 0.0, 0.0]]))


def test_each_unit_gets_the_number_of_its_action_or_chunk() -> None:
    actions = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert to_units(actions, 4).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    assert to_units(actions, 2).tolist() == actions.tolist()
    assert to_units(torch.tensor([5.0, 6.0]), 2).tolist() == [[5, 5], [6, 6]]
    with pytest.raises(ValueError, match="2 advantages per chunk cannot be given to 1 probability ratios"):
        to_units(actions, 1)


def test_tokens_that_are_no_whole_actions_have_no_other_level() -> None:
    x, mask = torch.zeros(1, 5), torch.ones(1, 5, dtype=torch.bool)
    for level in ("action_level", "chunk_level"):
        with pytest.raises(ValueError, match=r"5 tokens are no whole number of actions of 2 tokens.*token_level"):
            at_level(x, mask, level, 2)
