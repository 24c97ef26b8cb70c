"""Charts in SVG: lines with intervals, dots, stacked bars. Texts are HTML beside the plot: their size is that of the page."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from siirl.observe.report.axes import SIZE, Array, Axis
from siirl.observe.report.markup import Child, Html, join, number, tag

MOST_APART = 80
"""Bars of a chart with gaps between them."""

MOST_HITS = 240
"""Places of a chart that tell their values; of more, neighbours share one."""


@dataclass(frozen=True)
class Series:
    """Values over steps.

    Attributes:
        name: for the legend.
        color: CSS class of its colour: ``c1`` … ``c8``, ``good``, ``bad``.
        x, y: [n]; where y is NaN, the line is broken.
        low, high: the ends of an interval around each value [n], or None.
        dots: each value is a dot; with ``line`` they are joined.
        line: values are joined.
    """

    name: str
    color: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    dots: bool = False
    line: bool = True


def figure(title: str, plot: Child, how: Child, legend: Sequence[tuple[str, str]] = (), wide: bool = False) -> Html:
    """A chart with its title, its legend (colour class and text), and how its numbers were computed."""
    keys = [tag("span", tag("i", class_=color), name, class_="key") for color, name in legend]
    head = tag("figcaption", tag("h3", title), tag("span", keys, class_="legend") if keys else None)
    return tag("figure", head, plot, tag("p", how, class_="how"), class_="card wide" if wide else "card")


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, tips: Sequence[tuple[float, str]], tall: bool = False
) -> Html:
    """Lines with bands; ``tips``: what is told at a place of the x axis."""
    shapes = [_band(s, x, y) for s in series if s.low is not None and s.line]
    shapes += [_whiskers(s, x, y) for s in series if s.low is not None and not s.line]
    shapes += [_line(s, x, y) for s in series if s.line]
    shapes += [_dots(s, x, y) for s in series if s.dots]
    return plot(shapes + hits(tips, x), x, y, tall)


def plot(shapes: Iterable[Child], x: Axis, y: Axis, tall: bool = False) -> Html:
    """Shapes in a frame with ticks."""
    grid = [
        tag("path", d="".join(f"M0 {number(SIZE - float(y.at(t)))}H{SIZE:.0f}" for t in y.ticks), class_="grid"),
        tag("path", d=f"M0 {SIZE:.0f}H{SIZE:.0f}", class_="base"),
    ]
    size = f"{SIZE:.0f}"
    svg = tag("svg", grid, shapes, viewBox=f"0 0 {size} {size}", preserveAspectRatio="none", aria_hidden="true")
    labels = [y.written(t) for t in y.ticks]
    places = zip(labels, y.ticks, strict=True)
    rows = [tag("span", label, style=f"top:{number(100 - y.percent(t))}%") for label, t in places]
    columns = [tag("span", x.written(t), style=f"left:{number(x.percent(t))}%") for t in x.ticks]
    return tag(
        "div",
        tag("div", y.label, class_="ylabel"),
        tag("div", rows, class_="y"),
        tag("div", svg, class_="area"),
        tag("div", columns, class_="x"),
        tag("div", x.label, class_="xlabel"),
        class_="plot tall" if tall else "plot",
        style=f"--longest:{max(map(len, labels), default=0)}",  # characters beside the plot
    )


def hits(tips: Sequence[tuple[float, str]], x: Axis) -> list[Html]:
    """Invisible columns that tell ``tips`` (place and text, ascending) under the pointer."""
    every = -(-len(tips) // MOST_HITS)
    kept = tips[:: max(1, every)]
    places = [float(x.at(place)) for place, _ in kept]
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(places)), SIZE]
    return [
        tag("rect", x=number(left), y=0, width=number(right - left), height=f"{SIZE:.0f}", class_="hit", data_tip=text)
        for left, right, (_, text) in zip(edges, edges[1:], kept, strict=False)
    ]


def stacked_bars(
    x: Axis, y: Axis, places: Array, parts: Sequence[tuple[str, Array]], tips: Sequence[tuple[float, str]]
) -> Html:
    """Bars of parts (colour class and heights [n]) on top of each other."""
    gap = float(np.diff(places).min()) if len(places) > 1 else 1.0
    half = float(x.at(x.low + gap * (0.4 if len(places) <= MOST_APART else 0.5)))
    base, shapes = np.zeros(len(places)), []
    for color, heights in parts:
        top = base + heights
        rows = zip(x.at(places), SIZE - y.at(base), SIZE - y.at(top), strict=True)
        path = "".join(
            f"M{number(at - half)} {number(low)}V{number(high)}H{number(at + half)}V{number(low)}z"
            for at, low, high in rows
            if low - high > 0.01
        )
        shapes.append(tag("path", d=path, class_=f"bar {color}"))
        base = top
    return plot([*shapes, *hits(tips, x)], x, y)


def scatter(x: Axis, y: Axis, groups: Sequence[tuple[str, Array, Array]]) -> Html:
    """Dots of groups: colour class, x and y."""
    shapes = [tag("path", d=_points(x.at(a), SIZE - y.at(b)), class_=f"dots big {color}") for color, a, b in groups]
    return plot(shapes, x, y)


def _line(series: Series, x: Axis, y: Axis) -> Html:
    path, pen = [], "M"
    for at, value in zip(x.at(series.x), SIZE - y.at(series.y), strict=True):
        if np.isfinite(value):
            path.append(f"{pen}{number(at)} {number(value)}")
        pen = "L" if np.isfinite(value) else "M"
    return tag("path", d="".join(path), class_=f"line {series.color}")


def _dots(series: Series, x: Axis, y: Axis) -> Html:
    joined = " small" if series.line or len(series.x) > 60 else ""
    return tag("path", d=_points(x.at(series.x), SIZE - y.at(series.y)), class_=f"dots{joined} {series.color}")


def _points(xs: Array, ys: Array) -> str:
    """Lines of no length: their round ends are dots, which a stretched plot does not distort."""
    return "".join(f"M{number(a)} {number(b)}h0" for a, b in zip(xs, ys, strict=True) if np.isfinite(b))


def _band(series: Series, x: Axis, y: Axis) -> Html:
    assert series.low is not None
    assert series.high is not None
    there = np.isfinite(series.low) & np.isfinite(series.high)
    at, low, high = x.at(series.x[there]), SIZE - y.at(series.low[there]), SIZE - y.at(series.high[there])
    upper = "L".join(f"{number(a)} {number(b)}" for a, b in zip(at, high, strict=True))
    lower = "L".join(f"{number(a)} {number(b)}" for a, b in zip(at[::-1], low[::-1], strict=True))
    return tag("path", d=f"M{upper}L{lower}z" if len(at) else "", class_=f"band {series.color}")


def _whiskers(series: Series, x: Axis, y: Axis) -> Html:
    assert series.low is not None
    assert series.high is not None
    ends = zip(x.at(series.x), SIZE - y.at(series.low), SIZE - y.at(series.high), strict=True)
    path = "".join(f"M{number(at)} {number(low)}V{number(high)}" for at, low, high in ends if np.isfinite(low))
    return tag("path", d=path, class_=f"whisker {series.color}")


def share_bar(parts: Sequence[tuple[str, float, str]]) -> Html:
    """A bar of shares: colour class, share in [0, 1], and what is told of it."""
    return join(
        tag(
            "span",
            [
                tag("b", class_=color, style=f"width:{number(100 * share)}%", data_tip=tip)
                for color, share, tip in parts
            ],
            class_="share",
        )
    )
