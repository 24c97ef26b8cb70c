"""What became of the groups, what failures earned, and where the time went."""

import numpy as np

from siirl.observe.report.axes import axis, percent, plain, seconds, steps_axis, whole
from siirl.observe.report.chart import Series, figure, line_chart, scatter, stacked_bars
from siirl.observe.report.gantt import color_of
from siirl.observe.report.learning import tips_of
from siirl.observe.report.markup import Html, tag
from siirl.observe.report.numbers import mean_curve, quartile_curve
from siirl.observe.report.run import Episodes, Run
from siirl.observe.report.tables import numbers_table

REASONS = ("bad", "c5", "c3", "c6", "c7", "c8")
OUTCOMES = (("good", "success"), ("bad", "failure"))
REST = "in no stage"


def reward_charts(run: Run) -> list[Html]:
    """Reward against progress: of one step's episodes by their length, and of failures over the steps."""
    scored = run.episodes.of("train").valid()
    scored = scored.where(np.isfinite(_numbers(scored, "reward")))
    if not len(scored):
        return []
    found = [_by_length(scored)]
    if not scored.success.all():
        found.append(_by_step(scored, run.last_step))
    return found


def _by_length(scored: Episodes) -> Html:
    last = int(scored.step.max())
    now = scored.where(scored.step == last)
    length, reward = _numbers(now, "steps"), _numbers(now, "reward")
    x, y = axis([0, *length], "episode length, simulator steps", whole), axis([0, 1, *reward], "reward", plain)
    outcomes = (("bad", ~now.success), ("good", now.success))
    how = f"The {len(now)} episodes that trained in step {last}, the last one with any: one dot each."
    dots = scatter(x, y, [(color, length[chosen], reward[chosen]) for color, chosen in outcomes])
    return figure(f"Reward and length in step {last}", dots, how, OUTCOMES)


def _by_step(scored: Episodes, last_step: int) -> Html:
    failures, successes = scored.where(~scored.success), scored.where(scored.success)
    lost = quartile_curve(failures.step, _numbers(failures, "reward"))
    won = mean_curve(successes.step, _numbers(successes, "reward"))
    series = [
        Series("successes", "good", won.step, won.value, dots=len(won) <= 40),
        Series("failures", "bad", lost.step, lost.value, lost.low, lost.high, dots=len(lost) <= 40),
    ]
    y = axis([0.0, 1.0, *_numbers(scored, "reward")], "reward", plain)
    chart = line_chart(series, steps_axis(last_step, 1), y, tips_of(lost, y, "failures earn "))
    how = (
        "Of the episodes that trained: median and quartiles of failures, mean of successes. With algorithm.reward=srpo a failure "
        "earns the more, the nearer its video is to the successes of its task."
    )
    return figure("What failures earn", chart, how, OUTCOMES)


def filter_chart(run: Run) -> Html | None:
    """Of each step's complete groups, what share was kept, and why the others were not."""
    steps, rate = run.metric("filter/acceptance_rate")
    if not len(steps):
        return None
    counts = {
        name.removeprefix("filter/dropped_").replace("_", " "): _at(run, name, steps)
        for name in run.names("filter/dropped_")
    }
    dropped = np.sum([np.zeros(len(steps)), *counts.values()], axis=0)
    each = np.where(dropped > 0, (1 - rate) / np.maximum(dropped, 1), 0)
    colors = [REASONS[i % len(REASONS)] for i in range(len(counts))]
    parts = [("good", rate), *((color, count * each) for color, count in zip(colors, counts.values(), strict=True))]
    tips = []
    for i, step in enumerate(steps):
        why = "".join(f", {int(count[i])} {name}" for name, count in counts.items() if count[i])
        tips.append((float(step), f"step {step}: {percent(rate[i])} of the groups kept{why}"))
    keys = [("good", "kept"), *zip(colors, counts, strict=True)]
    how = (
        "Share of each step's complete groups: filter/acceptance_rate and filter/dropped_* of metrics.jsonl; its mean over the "
        f"steps is {percent(float(np.mean(rate)), 1)}."
    )
    y = axis([], "groups", percent, ends=(0, 1))
    return figure("Filter", stacked_bars(steps_axis(run.last_step, 1), y, steps, parts, tips), how, keys)


def stage_times(run: Run) -> list[Html]:
    """Seconds of each stage over the steps, and a table of their sums."""
    steps, lasted = run.metric("time/step")
    if not len(steps):
        return []
    names = [name for name in run.names("time/") if name not in ("time/step", "time/unaccounted")]
    columns = {name.removeprefix("time/"): _at(run, name, steps) for name in names}
    columns = dict(sorted(columns.items(), key=lambda item: -item[1].sum()))
    columns[REST] = np.maximum(lasted - np.sum([np.zeros(len(steps)), *columns.values()], axis=0), 0)
    tips = []
    for i, step in enumerate(steps):
        large = [f"{name} {seconds(values[i])}" for name, values in columns.items() if values[i] > 0.005 * lasted[i]]
        tips.append((float(step), f"step {step}, {seconds(lasted[i])}: " + ", ".join(large)))
    y = axis([0, *lasted], "seconds", plain)
    parts = [(_color(name), values) for name, values in columns.items()]
    keys = [(_color(name), name) for name, values in columns.items() if values.sum() > 0.002 * lasted.sum()]
    how = (
        "time/<stage> of metrics.jsonl, on the driver: “rollout” is how long it waited for the step's episodes, with filter and "
        "embedding; what of it ran beside the last update is not in it."
    )
    chart = stacked_bars(steps_axis(run.last_step, 1), y, steps, parts, tips)
    return [figure("Time per step", chart, how, keys), _times_table(columns, lasted)]


def _times_table(columns: dict[str, np.ndarray], lasted: np.ndarray) -> Html:
    total = float(lasted.sum())
    rows = []
    for name, values in [*columns.items(), ("all steps", lasted)]:
        mark = tag("i", class_=_color(name)) if name in columns else None
        there = values[values > 0]
        median = seconds(float(np.median(there))) if len(there) else "—"
        cells = [seconds(float(values.sum())), percent(float(values.sum()) / total, 1), median]
        rows.append(tag("tr", tag("th", mark, name, scope="row"), [tag("td", text) for text in cells]))
    head = tag("tr", [tag("th", text) for text in ("stage", "total", "share", "median")])
    return tag(
        "figure",
        tag("figcaption", tag("h3", "Time per stage")),
        numbers_table(head, rows),
        tag("p", "Sums over all steps; medians over the steps in which the stage took place.", class_="how"),
        class_="card",
    )


def _color(stage: str) -> str:
    return color_of("idle" if stage == REST else stage)


def _at(run: Run, name: str, steps: np.ndarray) -> np.ndarray:
    """A metric at each of ``steps``; 0 where it is absent."""
    found = dict(zip(*run.metric(name), strict=True))
    return np.array([found.get(step, 0.0) for step in steps], float)


def _numbers(episodes: Episodes, name: str) -> np.ndarray:
    return episodes.column(name).astype(float)
