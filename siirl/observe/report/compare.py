"""Several runs on one page: curves over each other, a table of what they reached, and how their configs differ."""

from collections.abc import Callable, Iterator

import numpy as np

from siirl.observe.report.axes import axis, count, percent, plain, seconds, steps_axis
from siirl.observe.report.chart import Series, figure, line_chart
from siirl.observe.report.headline import ENDS, faults, interval, show, state, validations
from siirl.observe.report.learning import tips_of
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.numbers import Curve, part, pool_of, rate_of, training_curve, validation_curve
from siirl.observe.report.paired import paired
from siirl.observe.report.run import Run
from siirl.observe.report.settings import config_differences
from siirl.observe.report.tables import numbers_figure

COLORS = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")


def comparison(runs: list[Run]) -> Iterator[tuple[str, list[Child]]]:
    """Titles and contents of the sections."""
    yield "Final values", [table(runs)]
    yield "Trial by trial", paired(runs)
    pooled = "Wilson 95 % intervals; where there are many steps, neighbours are pooled."
    charts = [
        overlay("Validation success", runs, validation_curve, "Wilson 95 % intervals."),
        overlay("Training success", runs, lambda run: training_curve(run, pool_of(run.last_step)), pooled),
        overlay(
            "Validation success by time", runs, lambda run: over_hours(run, validation_curve(run)), HOURS, hours=True
        ),
        overlay(
            "Training success by time",
            runs,
            lambda run: over_hours(run, training_curve(run, pool_of(run.last_step))),
            f"{HOURS} {pooled}",
            hours=True,
        ),
    ]
    yield "Curves", [chart for chart in charts if chart]
    yield "Config", [config_differences(runs)]


HOURS = "Time: the sum of time/step so far, in hours, without the start of the workers."


def overlay(title: str, runs: list[Run], curve: Callable[[Run], Curve], how: str, hours: bool = False) -> Html | None:
    """One curve of each run; None where none has it."""
    found = [(run, color, curve(run)) for run, color in zip(runs, _colors(runs), strict=True)]
    found = [(run, color, values) for run, color, values in found if len(values)]
    if not found:
        return None
    places = np.concatenate([values.step for _, _, values in found])
    x = (
        axis([], "hours", plain, ends=(0.0, float(places.max()) * 1.01))
        if hours
        else steps_axis(int(places.max()), int(places.min()))
    )
    y = axis([], "success", percent, ends=(0, 1))
    series = [Series(run.name, color, c.step, c.value, c.low, c.high, dots=len(c) <= 40) for run, color, c in found]
    texts: dict[float, list[str]] = {}
    for run, _, values in found:
        for place, text in tips_of(values, y):
            texts.setdefault(place, []).append(f"{run.name}: {text.partition(': ')[2]}")
    tips = [(place, f"{x.label} {x.form(place)}: " + "; ".join(texts[place])) for place in sorted(texts)]
    keys = [(color, run.name) for run, color, _ in found]
    return figure(title, line_chart(series, x, y, tips, tall=True), how, keys)


def over_hours(run: Run, curve: Curve) -> Curve:
    """The curve with the hours that had passed by the end of each step in place of the step."""
    steps, lasted = run.metric("time/step")
    if not len(steps):
        return Curve(np.zeros(0), np.zeros(0))
    passed = np.concatenate([[0.0], np.cumsum(lasted) / 3600])
    at = passed[np.searchsorted(steps, curve.step, side="right")]
    return Curve(at, curve.value, curve.low, curve.high, curve.n)


def table(runs: list[Run]) -> Html:
    """A line per run."""
    heads = (
        *("run", "state", "steps", "validation, first", "validation, last", LAST, "success"),
        *("time", "a step", "groups kept", "episodes", "faults"),
    )
    rows = [_cells(run, color) for run, color in zip(runs, _colors(runs), strict=True)]
    shown = [i for i in range(len(heads)) if i == 0 or any(row[i] != EMPTY for row in rows)]
    head = tag("tr", [tag("th", heads[i]) for i in shown])
    body = [tag("tr", [row[i] for i in shown]) for row in rows]
    told = [text for columns, text in TOLD.items() if any(heads[i] in columns for i in shown)]
    return numbers_figure(head, body, " ".join(told))


EMPTY = tag("td", "—")
LAST = f"training, last {percent(ENDS)}"
TOLD = {
    ("validation, first", LAST, "success"): (
        "Success with its Wilson 95 % interval and the number of episodes: where two intervals do not overlap, chance alone "
        "hardly explains the difference; where they do, it may still be one."
    ),
    ("time", "a step"): "Time: sum and median of time/step.",
    ("groups kept",): "Groups kept: mean of filter/acceptance_rate.",
    ("episodes",): "Episodes: all that the folder holds.",
}
"""What the caption says of columns."""


def _cells(run: Run, color: str) -> list[Html]:
    tested = validations(run)
    times, kept = run.metric("time/step")[1], run.metric("filter/acceptance_rate")[1]
    trained, evaluated = rate_of(part(run, ENDS, last=True)), rate_of(run.episodes.of("eval"))
    rates = [tested[0][1] if tested else None, tested[-1][1] if len(tested) > 1 else None, trained, evaluated]
    return [
        tag("th", tag("i", class_=color), run.name, tag("small", str(run.folder)), scope="row"),
        tag("td", state(run).word),
        _cell(str(run.last_step) if run.is_training else None),
        *(EMPTY if rate is None else tag("td", tag("b", show(rate)), tag("small", interval(rate))) for rate in rates),
        _cell(seconds(float(times.sum())) if len(times) else None),
        _cell(seconds(float(np.median(times))) if len(times) else None),
        _cell(percent(kept.mean()) if len(kept) else None),
        _cell(count(len(run.episodes)) if len(run.episodes) else None),
        tag("td", str(sum(faults(run).values()))),
    ]


def _cell(text: str | None) -> Html:
    return EMPTY if text is None else tag("td", text)


def _colors(runs: list[Run]) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(len(runs))]
