"""Intervals and tests of paired success rates, against exact sums over all outcomes."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.observe.statistics import Pairs, mcnemar, paired_interval

counts = st.integers(0, 60)
tables = st.builds(Pairs, counts, counts, counts, counts).filter(lambda pairs: pairs.count > 0)


def swapped(pairs: Pairs) -> Pairs:
    return Pairs(pairs.both, pairs.second, pairs.first, pairs.neither)


@given(tables)
def test_the_interval_holds_the_difference_and_mirrors_when_swapped(pairs: Pairs) -> None:
    low, high = paired_interval(pairs)
    assert -1 - 1e-9 <= low <= pairs.difference <= high <= 1 + 1e-9
    mirrored = paired_interval(swapped(pairs))
    assert mirrored == (pytest.approx(-high), pytest.approx(-low))


@given(tables)
def test_failures_and_successes_are_treated_alike(pairs: Pairs) -> None:
    """Success of one is failure of the other way round: only the sign changes."""
    low, high = paired_interval(pairs)
    inverted = Pairs(pairs.neither, pairs.second, pairs.first, pairs.both)
    assert paired_interval(inverted) == (pytest.approx(-high), pytest.approx(-low))


@given(tables, st.integers(2, 5))
def test_more_of_the_same_narrows_the_interval(pairs: Pairs, times: int) -> None:
    more = Pairs(*(times * n for n in (pairs.both, pairs.first, pairs.second, pairs.neither)))
    (low, high), (lower, higher) = paired_interval(more), paired_interval(pairs)
    assert high - low < higher - lower


@pytest.mark.parametrize(
    ("pairs", "interval"),
    [
        # Newcombe (1998), table II, method 10
        (Pairs(36, 2, 12, 0), (0.0569, 0.3404)),
        (Pairs(20, 2, 12, 16), (0.0562, 0.3292)),
        (Pairs(0, 0, 0, 97), (-0.0381, 0.0381)),
    ],
)
def test_published_intervals(pairs: Pairs, interval: tuple[float, float]) -> None:
    assert paired_interval(pairs) == tuple(pytest.approx(end, abs=6e-4) for end in interval)


@pytest.mark.parametrize(
    ("cells", "most"),
    [
        ((0.5, 0.1, 0.2, 0.2), 0.98),
        ((0.1, 0.3, 0.3, 0.3), 0.98),
        ((0.85, 0.05, 0.05, 0.05), 1),
    ],  # few unequal: cautious
)
def test_the_interval_covers_the_truth_in_95_of_100_samples(
    cells: tuple[float, float, float, float], most: float
) -> None:
    """Exactly: the probability of every table of 20 pairs whose interval holds the true difference."""
    n, truth, covered = 20, cells[2] - cells[1], 0.0
    for a, b, c in itertools.product(range(n + 1), repeat=3):
        if (d := n - a - b - c) >= 0:
            low, high = paired_interval(Pairs(a, b, c, d))
            ways = math.comb(n, a) * math.comb(n - a, b) * math.comb(n - a - b, c)
            probability = ways * math.prod(p**k for p, k in zip(cells, (a, b, c, d), strict=True))
            covered += probability * (low <= truth <= high)
    assert 0.935 < covered < most


def test_mcnemar_by_hand() -> None:
    assert mcnemar(Pairs(10, 0, 0, 5)) == 1
    assert mcnemar(Pairs(10, 0, 1, 5)) == 1
    assert mcnemar(Pairs(0, 0, 6, 0)) == pytest.approx(2 / 2**6)
    assert mcnemar(Pairs(3, 1, 9, 3)) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(Pairs(500, 2000, 2100, 500)) == pytest.approx(0.1219, abs=1e-3), "large counts neither overflow"


@given(tables)
def test_mcnemar_looks_at_unequal_pairs_alone_and_at_both_sides(pairs: Pairs) -> None:
    assert mcnemar(pairs) == mcnemar(swapped(pairs)) == mcnemar(Pairs(0, pairs.first, pairs.second, 0))
    assert 0 < mcnemar(pairs) <= 1


@given(st.integers(0, 40))
def test_mcnemar_errs_at_most_as_often_as_it_says(unequal: int) -> None:
    for level in (0.01, 0.05, 0.2):
        rejected = [k for k in range(unequal + 1) if mcnemar(Pairs(0, k, unequal - k, 0)) <= level]
        assert sum(math.comb(unequal, k) for k in rejected) <= level * 2**unequal
