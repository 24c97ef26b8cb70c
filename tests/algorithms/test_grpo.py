"""GRPO's advantage: values, groups of one, invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from siirl.algorithms.advantages import grpo_advantage

from siirl.algorithms.base import ADVANTAGES
from siirl.config.schema import AlgorithmConfig

groups_of_scores = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=8), min_size=1, max_size=6)


def test_values_of_interleaved_groups() -> None:
    scores = torch.tensor([1.0, 5.0, 0.0, 5.0, 0.0, 0.7])
    groups = torch.tensor([7, 2, 7, 2, 7, 99])
    advantage = grpo_advantage(scores, groups)
    std = torch.tensor([1.0, 0.0, 0.0]).std()
    expected = torch.tensor([2 / 3 / (std + 1e-6), 0, -1 / 3 / (std + 1e-6), 0, -1 / 3 / (std + 1e-6), 0.7])
    torch.testing.assert_close(advantage, expected)
    assert advantage.dtype == torch.float32


def test_without_division_by_the_standard_deviation() -> None:
    advantage = grpo_advantage(torch.tensor([1.0, 0.0, 0.25]), torch.tensor([0, 0, 1]), normalize_by_std=False)
    torch.testing.assert_close(advantage, torch.tensor([0.5, -0.5, 0.25]))


@given(groups_of_scores, st.booleans(), st.randoms(use_true_random=False))
def test_groups_are_independent_and_order_does_not_matter(groups: list, by_std: bool, random) -> None:
    rows = [(score, g) for g, scores in enumerate(groups) for score in scores]
    alone = torch.cat([grpo_advantage(torch.tensor(s), torch.zeros(len(s)), by_std) for s in groups])
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = grpo_advantage([rows[i][0] for i in order], [rows[i][1] for i in order], by_std)
    torch.testing.assert_close(shuffled, alone[order], atol=1e-4, rtol=1e-4)


@given(groups_of_scores)
def test_advantages_of_a_group_sum_to_zero_and_have_unit_spread(groups: list) -> None:
    for scores in groups:
        advantage = grpo_advantage(scores, [3] * len(scores)).double()
        if len(scores) == 1:
            assert advantage.item() == pytest.approx(scores[0])
        else:
            assert advantage.sum().item() == pytest.approx(0, abs=1e-4)
            if np.std(scores) > 1e-2:
                assert advantage.std().item() == pytest.approx(1, abs=1e-3)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\[3\] and \[2\]"):
        grpo_advantage([1.0, 2.0, 3.0], [0, 0])


@pytest.mark.parametrize("by_std", [True, False])
def test_registered_estimator_follows_the_config(by_std: bool) -> None:
    scores, groups = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0, 0, 1, 1])
    advantage = ADVANTAGES.get("grpo")(scores, groups, AlgorithmConfig(norm_adv_by_std_in_grpo=by_std))
    np.testing.assert_allclose(advantage, grpo_advantage(scores, groups, by_std))
