"""The fixed random order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from siirl.envs.maniskill.scene25.shuffle import shuffled


@given(st.integers(1, 300), st.integers(0, 50))
def test_everything_comes_once(n: int, key: int) -> None:
    assert sorted(shuffled(i, n, key) for i in range(n)) == list(range(n))


def test_the_order_is_fixed_and_random() -> None:
    assert [shuffled(i, 100, 7) for i in range(5)] == [66, 10, 24, 39, 59]
    order = np.array([shuffled(i, 1000, 0) for i in range(1000)])
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.1
    assert [shuffled(i, 1000, 1) for i in range(5)] != order[:5].tolist()


def test_enormous_numbers() -> None:
    n = 11_540_480_000
    assert len({shuffled(i, n, 0) for i in range(1000)}) == 1000
