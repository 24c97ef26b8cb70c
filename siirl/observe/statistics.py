"""Comparing two success rates that were measured on the same episodes."""

import math
from dataclasses import dataclass

from siirl.observe.metrics import wilson_interval


@dataclass(frozen=True)
class Pairs:
    """How n ≥ 1 pairs of episodes ended.

    Attributes:
        both: both succeeded.
        first: only the first one did.
        second: only the second one did.
        neither: none did.
    """

    both: int
    first: int
    second: int
    neither: int

    @property
    def count(self) -> int:
        """n."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """Success rate of the second, minus that of the first."""
        return (self.second - self.first) / self.count


def mcnemar(pairs: Pairs) -> float:
    """The exact p-value, two-sided, of both having the same success rate: among the pairs with one success, who has it is then a
    fair coin.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages, Psychometrika
    12 (1947), with the binomial distribution itself in the place of its approximation.
    """
    unequal = pairs.first + pairs.second
    tail = sum(math.comb(unequal, k) for k in range(min(pairs.first, pairs.second) + 1))
    return min(1.0, 2 * tail / 2**unequal)


def paired_interval(pairs: Pairs, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval (low, high) of `Pairs.difference`; z = 1.96 gives 95 %.

    The Wilson intervals of both rates, put together with the correlation of the outcomes: method 10 of Newcombe, Improved
    confidence intervals for the difference between binomial proportions based on paired data, Statistics in Medicine 17 (1998).
    """
    rates, lows, highs = [], [], []
    for successes in (pairs.both + pairs.second, pairs.both + pairs.first):
        low, high = wilson_interval(successes, pairs.count, z)
        rates.append(successes / pairs.count)
        lows.append(low)
        highs.append(high)
    below = [rate - low for rate, low in zip(rates, lows, strict=True)]
    above = [high - rate for rate, high in zip(rates, highs, strict=True)]
    correlation = _correlation(pairs)
    return (
        pairs.difference - _distance(below[0], above[1], correlation),
        pairs.difference + _distance(above[0], below[1], correlation),
    )


def _distance(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def _correlation(pairs: Pairs) -> float:
    """Of the two outcomes; one that is positive is taken with a continuity correction, so that it is not overstated."""
    both, first, second, neither = pairs.both, pairs.first, pairs.second, pairs.neither
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - first * second)
    if product > 0:
        product = max(product - pairs.count / 2, 0)
    return product / math.sqrt(margins)
