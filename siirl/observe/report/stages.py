"""What became of the groups, what failures earned, and where the time went."""

import numpy as np

from siirl.observe.report.axes import axis, percent, plain, seconds, steps_axis, whole
from siirl.observe.report.chart import Series, figure, line_chart, scatter, stacked_bars
from siirl.observe.report.gantt import color_of
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.numbers import mean_curve, quartile_curve
from siirl.observe.report.run import Run

REASONS = ("bad", "c2", "c5", "c6", "c7", "c8")


def reward_charts(run: Run) -> list[Html]:
    """Reward against progress: of one step's episodes by their length, and of failures over the steps."""
    scored = run.episodes.of("train").valid()
    scored = scored.where(np.isfinite(scored.column("reward").astype(float)))
    if not len(scored):
        return []
    last = int(scored.step.max())
    now = scored.where(scored.step == last)
    length, reward = now.column("steps").astype(float), now.column("reward").astype(float)
    x, y = axis([0, *length], "episode length, simulator steps", whole), axis([0, 1, *reward], "reward", plain)
    groups = [
        (color, length[now.success == won], reward[now.success == won])
        for color, won in (("bad", False), ("good", True))
    ]
    how = f"The {len(now)} episodes that trained in step {last}, the last one with any: one dot each."
    keys = [("good", "success"), ("bad", "failure")]
    found = [figure(f"Reward and length in step {last}", scatter(x, y, groups), how, keys)]
    failures, successes = scored.where(~scored.success), scored.where(scored.success)
    if len(failures):
        lost = quartile_curve(failures.step, failures.column("reward").astype(float))
        won = mean_curve(successes.step, successes.column("reward").astype(float))
        series = [
            Series("successes", "good", won.step, won.value),
            Series("failures", "bad", lost.step, lost.value, lost.low, lost.high, dots=len(lost) <= 40),
        ]
        rows = zip(lost.step, lost.value, lost.low, lost.high, lost.n, strict=True)  # type: ignore[arg-type]
        tips = [
            (float(s), f"step {s}: failures earn {plain(v)} [{plain(a)}, {plain(b)}], n = {n}")
            for s, v, a, b, n in rows
        ]
        values = np.concatenate([[0.0, 1.0], lost.low, lost.high, won.value])  # type: ignore[arg-type]
        chart = line_chart(series, steps_axis(run.last_step, 1), axis(values, "reward", plain), tips)
        how = "Of the episodes that trained: median and quartiles of failures, mean of successes. The gap is what a success is worth."
        found.append(figure("What failures earn", chart, how, keys))
    return found


def filter_chart(run: Run) -> Html | None:
    """Of each step's complete groups, what share was kept, and why the others were not."""
    steps, rate = run.metric("filter/acceptance_rate")
    if not len(steps):
        return None
    reasons = [
        (name.removeprefix("filter/dropped_"), dict(zip(*run.metric(name), strict=True)))
        for name in run.names("filter/dropped_")
    ]
    counts = np.array([[found.get(step, 0.0) for step in steps] for _, found in reasons]).reshape(
        len(reasons), len(steps)
    )
    dropped = counts.sum(axis=0)
    shares = counts * np.where(dropped > 0, (1 - rate) / np.maximum(dropped, 1), 0)
    parts = [("good", rate), *((REASONS[i % len(REASONS)], share) for i, share in enumerate(shares))]
    names = [name.replace("_", " ") for name, _ in reasons]
    tips = []
    for i, step in enumerate(steps):
        why = "".join(f", {int(counts[j, i])} {name}" for j, name in enumerate(names) if counts[j, i])
        tips.append((float(step), f"step {step}: {percent(rate[i])} of the groups kept{why}"))
    keys = [("good", "kept"), *((REASONS[i % len(REASONS)], name) for i, name in enumerate(names))]
    how = f"Share of each step's complete groups (filter/acceptance_rate, filter/dropped_*); the mean over steps is {np.mean(rate):.1%}."
    chart = stacked_bars(steps_axis(run.last_step, 1), axis([], "groups", percent, ends=(0, 1)), steps, parts, tips)
    return figure("Filter", chart, how, keys)


def stage_times(run: Run) -> list[Html]:
    """Seconds of each stage over the steps, and a table of their sums."""
    steps, whole_step = run.metric("time/step")
    names = [n for n in run.names("time/") if n not in ("time/step", "time/unaccounted")]
    if not len(steps):
        return []
    found = {n.removeprefix("time/"): dict(zip(*run.metric(n), strict=True)) for n in names}
    columns = {name: np.array([values.get(step, 0.0) for step in steps]) for name, values in found.items()}
    columns = dict(sorted(columns.items(), key=lambda item: -item[1].sum()))
    columns["in no stage"] = np.maximum(whole_step - sum(columns.values()), 0)
    parts = [(color_of(name) if name != "in no stage" else "k-idle", values) for name, values in columns.items()]
    tips = []
    for i, step in enumerate(steps):
        largest = [
            f"{name} {seconds(values[i])}" for name, values in columns.items() if values[i] > 0.005 * whole_step[i]
        ]
        tips.append((float(step), f"step {step}, {seconds(whole_step[i])}: " + ", ".join(largest)))
    y = axis([0, *whole_step], "seconds", plain)
    keys = [(color_of(name), name) for name, values in columns.items() if values.sum() > 0.002 * whole_step.sum()]
    how = "time/<stage> of metrics.jsonl, on the driver: “rollout” is how long it waited for the step's episodes, with filter and embedding."
    chart = stacked_bars(steps_axis(run.last_step, 1), y, steps, parts, tips)
    return [figure("Time per step", chart, how, keys), _times_table(columns, whole_step)]


def _times_table(columns: dict[str, np.ndarray], whole_step: np.ndarray) -> Html:
    total = whole_step.sum()
    rows: list[Child] = [
        tag(
            "tr",
            tag("th", tag("i", class_=color_of(name) if name != "in no stage" else "k-idle"), name, scope="row"),
            tag("td", seconds(float(values.sum()))),
            tag("td", f"{values.sum() / total:.1%}"),
            tag("td", seconds(float(np.median(values[values > 0]))) if (values > 0).any() else "—"),
        )
        for name, values in columns.items()
    ]
    head = tag("tr", tag("th", "stage"), tag("th", "total"), tag("th", "share"), tag("th", "median"))
    last = tag(
        "tr",
        tag("th", "all steps", scope="row"),
        tag("td", seconds(float(total))),
        tag("td", "100 %"),
        tag("td", seconds(float(np.median(whole_step)))),
    )
    how = "Sums over all steps; medians over the steps in which the stage took place."
    return tag(
        "figure",
        tag("figcaption", tag("h3", "Time per stage")),
        tag("div", tag("table", tag("thead", head), tag("tbody", rows, last), class_="numbers"), class_="scroll"),
        tag("p", how, class_="how"),
        class_="card",
    )
