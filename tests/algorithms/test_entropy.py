import math

import torch

from siirl.algorithms.entropy import entropy_bonus


def test_active_units_alone_are_added_up_and_have_a_gradient() -> None:
    entropy = torch.tensor([[1.0, 2.0], [math.nan, 4.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, True]])
    bonus = entropy_bonus(entropy, mask)
    bonus.backward()
    assert bonus == 5
    assert entropy.grad is not None
    assert entropy.grad.tolist() == [[1, 0], [0, 1]]
    assert entropy_bonus(entropy, mask, weights=torch.tensor([2.0, 0.5])) == 4
