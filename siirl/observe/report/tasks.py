"""Success task by task, with intervals."""

import numpy as np

from siirl.observe.report.axes import percent
from siirl.observe.report.headline import ENDS
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.numbers import rate_of
from siirl.observe.report.run import Episodes, Run
from siirl.observe.report.tables import numbers_figure, rate_cell


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
    told = [text for split, text in TOLD.items() if has[split]]
    rates = "Success and its Wilson 95 % interval, with the number of episodes."
    how = " ".join([rates, *told, "Length: median of all episodes, simulator steps."])
    return numbers_figure(tag("tr", heads), rows, how)


TOLD = {
    "val": "Validation: the first and the last one; a dropped episode counts as a failure.",
    "eval": "A dropped episode counts as a failure.",
    "train": (
        f"Training: the first and the last {percent(ENDS)} of the steps that rolled the task out, without dropped episodes. "
        "Kept: the share of its training episodes whose group passed the filter."
    ),
}
"""What the caption says of the columns of a split."""


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
