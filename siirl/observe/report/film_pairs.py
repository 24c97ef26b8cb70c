"""Films of the same task side by side: imagined on the left, real on the right, from the same trial where there are such."""

from collections.abc import Iterator
from pathlib import Path

from siirl.config.environments import VALIDATION
from siirl.observe.report.films import filmstrip, strip_figure, with_video
from siirl.observe.report.markup import Html, tag
from siirl.observe.report.run import Row, Run

MOST_PAIRS = 6


def film_pairs(run: Run, page: Path) -> Html | None:
    """A row for each pair; None where there are no two films of one task.

    Args:
        run: whose videos; it trains in a world model.
        page: the file that the strips become part of.
    """
    rows = []
    for left, right in pairs(run):
        strips = [
            (name, row, filmstrip(run.folder / row["video"], row["instruction"]))
            for name, row in (("imagined", left), ("real", right))
        ]
        shown = [
            strip_figure(row, strip, run.folder / row["video"], page, name)
            for name, row, strip in strips
            if strip is not None
        ]
        if len(shown) == len(strips):
            rows.append(tag("div", shown, class_="two"))
    if not rows:
        return None
    how = (
        "The newest videos of a trial in both environments; where no trial has both, of a task. The same trial starts alike "
        "in both where the world model's first frames were recorded from the simulator's trials, from 0 on without gaps."
    )
    head = tag("h3", "Imagined and real films")
    return tag("div", head, rows, tag("p", how, class_="how"), class_="films wide")


def pairs(run: Run) -> Iterator[tuple[Row, Row]]:
    """Imagined and real episodes with videos: the newest of every trial that has both, and of every task where none has; of as
    many tasks as possible, and at most `MOST_PAIRS`."""
    found = with_video(run)
    is_real = (found.column("split") == "val") | (found.column("env") == VALIDATION)
    imagined, real = (
        sorted(found.where(mask).table.to_pylist(), key=lambda row: -row["step"]) for mask in (~is_real, is_real)
    )
    taken: list[tuple[int, bool, Row, Row]] = []
    for task in dict.fromkeys(_task(row) for row in imagined):
        left, right = ([row for row in rows if _task(row) == task] for rows in (imagined, real))
        both = _same_trial(left, right) or list(zip(left[:1], right[:1], strict=False))
        taken += [(rank, one["trial_id"] != other["trial_id"], one, other) for rank, (one, other) in enumerate(both)]
    for _, _, one, other in sorted(taken, key=lambda entry: entry[:2])[:MOST_PAIRS]:
        yield one, other


def _same_trial(left: list[Row], right: list[Row]) -> list[tuple[Row, Row]]:
    """The newest of each trial on either side."""
    newest = {row["trial_id"]: row for row in reversed(right)}
    ours = {row["trial_id"]: row for row in reversed(left)}
    order = dict.fromkeys(row["trial_id"] for row in left)
    return [(ours[trial], newest[trial]) for trial in order if trial in newest]


def _task(row: Row) -> tuple[str, int]:
    return row["suite"], row["task_id"]
