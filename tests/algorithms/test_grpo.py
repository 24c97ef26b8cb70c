"""GRPO's advantage: values, groups of one, invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.algorithms.grpo import grpo_advantage

groups_of_scores = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=8), min_size=1, max_size=6)


def test_values_of_interleaved_groups() -> None:
    advantage = grpo_advantage(np.array([1.0, 5.0, 0.0, 5.0, 0.0, 0.7]), np.array([7, 2, 7, 2, 7, 99]))
    std = 3**-0.5
    expected = [2 / 3 / (std + 1e-6), 0, -1 / 3 / (std + 1e-6), 0, -1 / 3 / (std + 1e-6), 0.7]
    np.testing.assert_allclose(advantage, expected, rtol=1e-12)


def test_without_division_by_the_standard_deviation() -> None:
    np.testing.assert_array_equal(
        grpo_advantage([1.0, 0.0, 0.25], [0, 0, 1], normalize_by_std=False), [0.5, -0.5, 0.25]
    )


@given(groups_of_scores, st.booleans(), st.randoms(use_true_random=False))
def test_groups_are_independent_and_order_does_not_matter(groups: list, by_std: bool, random) -> None:
    rows = [(score, g) for g, scores in enumerate(groups) for score in scores]
    alone = np.concatenate([grpo_advantage(s, [0] * len(s), by_std) for s in groups])
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = grpo_advantage([rows[i][0] for i in order], [rows[i][1] for i in order], by_std)
    np.testing.assert_allclose(shuffled, alone[order], atol=1e-6, rtol=1e-6)


@given(groups_of_scores)
def test_advantages_of_a_group_sum_to_zero_and_have_unit_spread(groups: list) -> None:
    for scores in groups:
        advantage = grpo_advantage(scores, [3] * len(scores))
        if len(scores) == 1:
            assert advantage.item() == pytest.approx(scores[0])
        else:
            assert advantage.sum() == pytest.approx(0, abs=1e-6)
            if np.std(scores) > 1e-2:
                assert advantage.std(ddof=1) == pytest.approx(1, abs=1e-3)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\[3\] and \[2\]"):
        grpo_advantage([1.0, 2.0, 3.0], [0, 0])
