"""The statistics of the page: rates with Wilson intervals, means, quartiles, per step."""

from dataclasses import dataclass

import numpy as np

from siirl.observe.metrics import wilson_interval
from siirl.observe.report.axes import Array
from siirl.observe.report.run import Episodes, Run

Z = 1.96
"""Of a 95 % interval."""

MOST_POINTS = 60
"""Steps that are drawn one by one; of more, neighbours are pooled for the line."""


@dataclass(frozen=True)
class Rate:
    """A success rate: ``successes`` of ``n`` ≥ 1 episodes, and its Wilson 95 % interval."""

    successes: int
    n: int

    @property
    def value(self) -> float:
        """The rate."""
        return self.successes / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end."""
        return wilson_interval(self.successes, self.n)


@dataclass(frozen=True)
class Curve:
    """Values per step, each [n].

    Attributes:
        step: training steps, ascending.
        value: what was measured.
        low, high: an interval, or quartiles; None where there is none.
        n: episodes behind each value; None where that is not known.
    """

    step: Array
    value: Array
    low: Array | None = None
    high: Array | None = None
    n: Array | None = None

    def __len__(self) -> int:
        return len(self.step)


def rate_of(episodes: Episodes) -> Rate | None:
    """The success rate of some episodes; None of none."""
    return Rate(int(episodes.success.sum()), len(episodes)) if len(episodes) else None


def success_curve(episodes: Episodes, pool: int = 1) -> Curve:
    """Success per step; with ``pool`` > 1 of that many steps around each taken together."""
    steps = np.unique(episodes.step)
    at = np.searchsorted(steps, episodes.step)
    n = _pooled(np.bincount(at, minlength=len(steps)), pool)
    won = _pooled(np.bincount(at, weights=episodes.success, minlength=len(steps)), pool)
    ends = [wilson_interval(int(k), int(m), Z) for k, m in zip(won, n, strict=True)]
    low, high = (np.array(column, float) for column in (zip(*ends, strict=True) if ends else ((), ())))
    return Curve(steps, won / np.maximum(n, 1), low, high, n)


def training_curve(run: Run, pool: int = 1) -> Curve:
    """Success of the training episodes; from metrics.jsonl, without intervals, where there are no episodes."""
    episodes = run.episodes.of("train").valid()
    return success_curve(episodes, pool) if len(episodes) else Curve(*run.metric("rollout/success_rate"))


def validation_curve(run: Run) -> Curve:
    """As `training_curve`, of the validations. A dropped episode counts as a failure."""
    episodes = run.episodes.of("val")
    return success_curve(episodes) if len(episodes) else Curve(*run.metric("val/success_rate"))


def mean_curve(steps: Array, values: Array) -> Curve:
    """Mean per step of values [n] of steps [n], with ± 1.96 standard errors; NaN is left out."""
    there = np.isfinite(values)
    steps, values = steps[there], values[there]
    unique = np.unique(steps)
    at = np.searchsorted(unique, steps)
    n = np.bincount(at, minlength=len(unique))
    mean = np.bincount(at, weights=values, minlength=len(unique)) / np.maximum(n, 1)
    squares = np.bincount(at, weights=(values - mean[at]) ** 2, minlength=len(unique))
    error = Z * np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    return Curve(unique, mean, mean - error, mean + error, n)


def quartile_curve(steps: Array, values: Array) -> Curve:
    """Median per step, and the quartiles around it."""
    there = np.isfinite(values)
    steps, values = steps[there], values[there]
    order = np.argsort(steps, kind="stable")
    unique, first = np.unique(steps[order], return_index=True)
    groups = np.split(values[order], first[1:]) if len(unique) else []
    found = np.array([np.quantile(group, (0.25, 0.5, 0.75)) for group in groups]).reshape(-1, 3)
    return Curve(unique, found[:, 1], found[:, 0], found[:, 2], np.array([len(group) for group in groups], int))


@dataclass(frozen=True)
class Correlation:
    """Pearson's ``r``, and the ends of its 95 % interval (Fisher 1921); None of fewer than four points."""

    r: float
    low: float | None
    high: float | None


def correlation(x: Array, y: Array) -> Correlation | None:
    """Of values [n]; None where there are fewer than three, or one side is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    if len(x) == 3 or abs(r) == 1:
        return Correlation(r, None, None)
    half = Z / np.sqrt(len(x) - 3)
    return Correlation(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))


def pool_of(steps: int) -> int:
    """Neighbouring steps that are taken together: 1 where all of them can be told apart, else an odd number."""
    return 1 if steps <= MOST_POINTS else 2 * (steps // MOST_POINTS) + 1


def part(run: Run, share: float, last: bool) -> Episodes:
    """The training episodes of the first or last ``share`` of the steps that have any, at least of one."""
    episodes = run.episodes.of("train").valid()
    steps = np.unique(episodes.step)
    count = max(1, round(len(steps) * share))
    chosen = steps[-count:] if last else steps[:count]
    return episodes.where(np.isin(episodes.step, chosen))


def _pooled(counts: Array, pool: int) -> Array:
    """Sums over ``pool`` neighbours, an odd number; fewer at the ends."""
    if pool == 1 or not len(counts):
        return counts
    sums = np.concatenate([[0], np.cumsum(counts)])
    half, n = pool // 2, len(counts)
    return sums[np.minimum(np.arange(n) + half + 1, n)] - sums[np.maximum(np.arange(n) - half, 0)]
