"""Success task by task, with intervals."""

import numpy as np

from siirl.observe.report.axes import percent
from siirl.observe.report.headline import ENDS, interval
from siirl.observe.report.markup import Child, Html, number, tag
from siirl.observe.report.numbers import Rate, rate_of
from siirl.observe.report.run import Episodes, Run


def tasks_table(run: Run) -> Html | None:
    """A line per task: validation before and after (or the evaluation), training at both ends, and the length of episodes."""
    if not len(run.episodes):
        return _from_metrics(run)
    has = {split: len(run.episodes.of(split)) > 0 for split in ("val", "eval", "train")}
    heads: list[Child] = [tag("th", "task"), tag("th", "instruction")]
    heads += [tag("th", "validation, first"), tag("th", "validation, last")] if has["val"] else []
    heads += [tag("th", "success")] if has["eval"] else []
    heads += [tag("th", "training, first"), tag("th", "training, last")] if has["train"] else []
    heads += [tag("th", "kept")] if has["train"] else []
    heads += [tag("th", "length")]
    rows = []
    for (suite, task_id), instruction, episodes in run.episodes.by_task():
        cells: list[Child] = [tag("th", f"{suite} {task_id}", scope="row"), tag("td", instruction, class_="text")]
        for split in ("val", "eval", "train"):
            chosen = episodes.of(split)
            if has[split]:
                cells += _cells(chosen, split)
        if has["train"]:
            trained = episodes.of("train")
            cells.append(tag("td", percent(trained.kept.mean()) if len(trained) else "—"))
        cells.append(tag("td", f"{np.median(episodes.column('steps')):.0f}"))
        rows.append(tag("tr", cells))
    how = (
        "Success and its Wilson 95 % interval, with the number of episodes. Validation: the first and the last one (a dropped "
        f"episode counts as a failure). Training: the first and the last {percent(ENDS)} of the steps that rolled the task out, "
        "without dropped episodes. Kept: the share of its training episodes whose group passed the filter. Length: median of all "
        "episodes, simulator steps."
    )
    return numbers_figure(tag("tr", heads), rows, how)


def _cells(episodes: Episodes, split: str) -> list[Html]:
    if split == "eval":
        return [rate_cell(rate_of(episodes))]
    if split == "train":
        episodes = episodes.valid()
    steps = np.unique(episodes.step)
    if not len(steps):
        return [tag("td", "—"), tag("td", "—")]
    count = 1 if split == "val" else max(1, round(len(steps) * ENDS))
    first, last = (episodes.where(np.isin(episodes.step, chosen)) for chosen in (steps[:count], steps[-count:]))
    return [rate_cell(rate_of(first)), rate_cell(rate_of(last)) if len(steps) > 1 else tag("td", "—")]


def rate_cell(rate: Rate | None) -> Html:
    """A cell with a rate, its interval as a bar, and its numbers."""
    if rate is None:
        return tag("td", "—")
    low, high = rate.interval
    span = tag("i", class_="range", style=f"left:{number(low * 100)}%;width:{number((high - low) * 100)}%")
    mark = tag("i", class_="mark", style=f"left:{number(rate.value * 100)}%")
    return tag(
        "td", tag("b", percent(rate.value)), tag("span", span, mark, class_="interval"), tag("small", interval(rate))
    )


def _from_metrics(run: Run) -> Html | None:
    """Of a run whose episodes were not kept: what metrics.jsonl says of each task."""
    prefix = "val/success_rate/"
    names = run.names(prefix)
    if not names:
        return None
    rows = []
    for name in sorted(names):
        values = run.metric(name)[1]
        cells = [tag("td", percent(values[0])), tag("td", percent(values[-1]) if len(values) > 1 else "—")]
        rows.append(tag("tr", tag("th", name.removeprefix(prefix), scope="row"), cells))
    heads = tag("tr", tag("th", "task"), tag("th", "validation, first"), tag("th", "validation, last"))
    return numbers_figure(
        heads, rows, f"{prefix}<task> of metrics.jsonl; no intervals, because the episodes were not kept."
    )


def numbers_figure(heads: Html, rows: list[Html], how: str) -> Html:
    """A table of numbers, and how they were computed."""
    table = tag("table", tag("thead", heads), tag("tbody", rows), class_="numbers")
    return tag("figure", tag("div", table, class_="scroll"), tag("p", how, class_="how"), class_="card wide")
