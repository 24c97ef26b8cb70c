"""Imagined and real: success of both over the steps, how one foretells the other, and films of both beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siirl.config.environments import ENV, VAL_ENV, VALIDATION
from siirl.envs.base import ENVS
from siirl.observe.report.axes import axis, percent, steps_axis
from siirl.observe.report.chart import Series, figure, line_chart
from siirl.observe.report.film_pairs import film_pairs
from siirl.observe.report.learning import success_tips
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.numbers import Correlation, Rate, correlation, pool_of, rate_of, success_curve
from siirl.observe.report.run import Episodes, Run
from siirl.observe.report.tables import numbers_figure, rate_cell


@dataclass(frozen=True)
class Pair:
    """What a validation found in reality after ``step``, and what was imagined around it: in that step and the next."""

    step: int
    imagined: Rate
    real: Rate


def imagination(run: Run, page: Path) -> list[Html]:
    """The charts, the table and the films; nothing for a run that trains in no world model, or validates there.

    Args:
        run: what to show.
        page: the file that this becomes part of.
    """
    if not imagines(run):
        return []
    real = run.episodes.of("val")
    train = run.episodes.of("train").valid()
    in_real = train.column("env") == VALIDATION
    imagined = train.where(~in_real)
    if not len(imagined) or not len(real):
        return []
    charts = [_curves(imagined, train.where(in_real), real), _prediction(pair_up(imagined, real))]
    found = [*charts, _by_task(imagined, real), film_pairs(run, page)]
    return [part for part in found if part is not None]


def imagines(run: Run) -> bool:
    """Whether the run trains in a world model and validates elsewhere."""
    kind = run.config.get(f"{ENV}.env_type")
    if kind is None or run.config.get(f"{VAL_ENV}.env_type") is None:
        return False
    try:
        return ENVS.get(kind).imagined
    except ValueError:  # an environment of another installation
        return False


def pair_up(imagined: Episodes, real: Episodes) -> list[Pair]:
    """Each validation with the episodes that were imagined by about the same policy: of its step, which the weights before it
    rolled out, and of the next one, which its own did."""
    found = []
    for step in np.unique(real.step):
        near = rate_of(imagined.where((imagined.step == step) | (imagined.step == step + 1)))
        tested = rate_of(real.where(real.step == step))
        if near is not None and tested is not None:
            found.append(Pair(int(step), near, tested))
    return found


def _curves(imagined: Episodes, trained: Episodes, real: Episodes) -> Html:
    """Success over the steps: imagined and, where there is any, real training; validation."""
    pool = pool_of(len(np.unique(imagined.step)))
    curves = [("imagined, training", "c1", success_curve(imagined, pool))]
    if len(trained):
        curves.append(("real, training", "c4", success_curve(trained, pool)))
    curves.append(("real, validation", "c2", success_curve(real)))
    series = [
        Series(name, color, curve.step, curve.value, curve.low, curve.high, dots=len(curve) <= 40)
        for name, color, curve in curves
    ]
    x = steps_axis(max(int(imagined.step.max()), int(real.step.max())), 0 if real.step.min() == 0 else 1)
    y = axis([], "success", percent, ends=(0.0, 1.0))
    pooled = f" Training pools {pool} neighbouring steps." if pool > 1 else ""
    how = f"Share of the episodes that succeeded, Wilson 95 % intervals; in imagination the classifier says so.{pooled}"
    keys = [(color, name) for name, color, _ in curves]
    chart = line_chart(series, x, y, success_tips([(name, curve) for name, _, curve in curves]))
    return figure("Success, imagined and real", chart, how, keys)


def _prediction(pairs: Sequence[Pair]) -> Html | None:
    """Real success over imagined success, a dot for each validation."""
    if not pairs:
        return None
    imagined, real = (np.array([getattr(pair, name).value for pair in pairs]) for name in ("imagined", "real"))
    low, high = np.array([pair.real.interval for pair in pairs]).T
    order = np.argsort(imagined, kind="stable")
    dots = Series("validations", "c2", imagined, real, low, high, dots=True, line=False)
    alike = Series("alike", "c8", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    tips = [
        (float(imagined[i]), f"step {pairs[i].step}: imagined {percent(imagined[i], 1)}, real {percent(real[i], 1)}")
        for i in order
    ]
    x = axis([], "imagined success", percent, ends=(0.0, 1.0))
    y = axis([], "real success", percent, ends=(0.0, 1.0))
    how = (
        f"{_told(correlation(imagined, real), len(pairs))} {_bias(float(np.mean(imagined - real)))} Each dot is a validation, "
        "with its Wilson 95 % interval, and the training episodes that were imagined in its step and the next one, by about the "
        "same weights. These are sampled, and of other trials where some are held out."
    )
    keys = [("c2", "validations"), ("c8", "imagined = real")]
    return figure("Does imagined success foretell real success?", line_chart([alike, dots], x, y, tips), how, keys)


def _told(found: Correlation | None, n: int) -> str:
    """A correlation in words."""
    if found is None:
        return f"No correlation can be told of {n} validation{'s' * (n > 1)}: three that differ are needed."
    ends = "" if found.low is None or found.high is None else f" (95 %: {found.low:.2f} to {found.high:.2f})"
    return f"Correlation over {n} validations: r = {found.r:.2f}{ends}."


def _bias(gap: float) -> str:
    """By how much imagined success is above real success, in words."""
    if abs(gap) < 5e-4:
        return "On average the two are the same."
    word = "hopeful" if gap > 0 else "sceptical"
    return f"Imagination is {percent(abs(gap), 1)} of the episodes too {word} on average."


def _by_task(imagined: Episodes, real: Episodes) -> Html:
    """A line per task: both rates around the last validation, and their correlation over all of them."""
    there = {key: episodes for key, _, episodes in imagined.by_task()}
    rows = []
    for key, instruction, tested in real.by_task():
        pairs = pair_up(there[key], tested) if key in there else []
        cells: list[Child] = [tag("th", f"{key[0]} {key[1]}", scope="row"), tag("td", instruction, class_="text")]
        if pairs:
            values = [np.array([getattr(pair, name).value for pair in pairs]) for name in ("imagined", "real")]
            found = correlation(*values)
            cells += [rate_cell(pairs[-1].imagined), rate_cell(pairs[-1].real)]
            cells.append(tag("td", "—" if found is None else f"{found.r:.2f}", tag("small", f"of {len(pairs)}")))
        else:
            cells += [
                tag("td", "—"),
                rate_cell(rate_of(tested.where(tested.step == tested.step.max()))),
                tag("td", "—"),
            ]
        rows.append(tag("tr", cells))
    names = ("task", "instruction", "imagined", "real", "correlation")
    how = (
        "Success around the last validation with the Wilson 95 % interval and the number of episodes: imagined in its step and "
        "the next one, real in the validation. Correlation of the two over all validations."
    )
    return numbers_figure(tag("tr", [tag("th", name) for name in names]), rows, how)
