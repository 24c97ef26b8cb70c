"""Scales and ticks of the charts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

SIZE = 1000.0
"""Width and height of a plot in its own units; it is stretched to what the page has room for."""


@dataclass(frozen=True)
class Axis:
    """A linear scale.

    Attributes:
        low, high: the values at its ends.
        label: what it shows, with the unit.
        form: how a value is written.
        ticks: the values that are written along it.
    """

    low: float
    high: float
    label: str
    form: Callable[[float], str]
    ticks: tuple[float, ...]

    def at(self, values: Array | float) -> Array:
        """Where values lie, from 0 at ``low`` to `SIZE` at ``high``."""
        return (np.asarray(values, float) - self.low) / (self.high - self.low) * SIZE

    def written(self, tick: float) -> str:
        """A tick with all of its digits: it is round, and rounded further it may read like its neighbour."""
        return exact(tick) if self.form in (plain, whole) else self.form(tick)

    def percent(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        return float(self.at(value)) / SIZE * 100


def axis(
    values: Sequence[float] | Array,
    label: str,
    form: Callable[[float], str],
    *,
    ends: tuple[float, float] | None = None,
) -> Axis:
    """An axis that holds all finite values (or from end to end), with three to six round ticks."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    low, high = ends or ((float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0))
    if high - low <= 1e-9 * abs(high):
        room = abs(high) / 2 or 0.5
        low, high = (low - room, high + room)
    unit = _unit((high - low) / 4)
    if ends is None:
        low, high = math.floor(low / unit + 1e-9) * unit, math.ceil(high / unit - 1e-9) * unit
    first = math.ceil(low / unit - 1e-9)
    ticks = tuple(float(f"{i * unit:.12g}") for i in range(first, math.floor(high / unit + 1e-9) + 1))
    return Axis(low, high, label, form, ticks)


def steps_axis(last: int, first: int = 0) -> Axis:
    """An axis of training steps, with room beside the outermost ones."""
    unit = max(1, round(_unit(max(1, last - first) / 5)))
    start = math.ceil(first / unit) * unit
    room = max(0.5, (last - first) * 0.015)
    return Axis(first - room, last + room, "training step", whole, tuple(range(start, last + 1, unit)))


def _unit(rough: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten: the smallest that is not below ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def whole(value: float) -> str:
    """Without digits behind the point."""
    return f"{value:.0f}"


def percent(value: float, digits: int = 0) -> str:
    """A share in percent."""
    return f"{value * 100:.{digits}f}\u202f%"


def count(value: int) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def plain(value: float) -> str:
    """Three or four significant digits."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "—"
    size = abs(value)
    if size >= 10000 or size < 0.001:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return (
        f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}".rstrip("0").rstrip(".")
        if size < 100
        else f"{value:.0f}"
    )


def exact(value: float) -> str:
    """A round number as it is, e.g. ``112.5``, ``9.92e-5``."""
    if value == 0 or abs(value) >= 0.001:
        return f"{value:.12g}"
    mantissa, _, power = f"{value:.11e}".partition("e")
    return f"{float(mantissa):.12g}e{int(power)}"


def seconds(value: float) -> str:
    """A time, e.g. ``20 ms``, ``0.24 s``, ``48 s``, ``2 min 20 s``, ``14 min``, ``3 h 20 min``."""
    if not math.isfinite(value):
        return "—"
    if value < 0.0995:
        return f"{plain(float(f'{value * 1000:.2g}'))} ms"
    if value < 99.5:
        return f"{plain(value)} s" if value < 9.95 else f"{value:.0f} s"
    if value < 599.5:
        return f"{round(value) // 60} min {round(value) % 60} s"
    minutes = round(value / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
