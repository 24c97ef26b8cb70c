"""The accuracy band."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.algorithms.filters import accuracy_filter


@pytest.mark.parametrize(("wins", "n", "kept"), [(0, 8, False), (1, 8, True), (7, 8, True), (8, 8, False)])
def test_published_bounds(wins: int, n: int, kept: bool) -> None:
    assert accuracy_filter([True] * wins + [False] * (n - wins), 0.1, 0.9) is kept


@given(st.integers(1, 64), st.data())
def test_bounds_are_inclusive_for_every_fraction(n: int, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, n))
    success = [True] * wins + [False] * (n - wins)
    assert accuracy_filter(success, wins / n, wins / n)
    assert accuracy_filter(success, 1 - (n - wins) / n, 1 - (n - wins) / n)
    assert not accuracy_filter(success, wins / n + 1e-3, 1)
    assert not accuracy_filter(success, 0, wins / n - 1e-3)


def test_rounding_of_the_bounds_does_not_drop_a_group() -> None:
    three_of_ten = [True] * 3 + [False] * 7
    assert 0.1 + 0.2 > 3 / 10
    assert accuracy_filter(three_of_ten, 0.1 + 0.2, 0.9)
    assert accuracy_filter([True] + [False] * 9, 0.1, 0.9)
