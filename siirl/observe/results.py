"""What an evaluation found: success per task, per suite and in all, as ``results.json`` and as a table."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from siirl.data.files import write_atomically
from siirl.observe.episodes import EpisodeRow
from siirl.observe.metrics import wilson_interval

RESULTS = "results.json"


def summarise(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    """Numbers of n ≥ 1 episodes: ``episodes``, ``successes``, ``success`` (their ratio; a dropped episode counts as a failure)
    with its Wilson 95 % interval ``low`` to ``high``, ``steps`` and ``steps_of_successes`` (mean lengths in environment steps of
    those that were not dropped; null where there are none), and ``dropped``, reason → episodes."""
    whole = [row for row in rows if row.drop_reason is None]
    successes = sum(row.success for row in rows)
    low, high = wilson_interval(successes, len(rows))
    return {
        "episodes": len(rows),
        "successes": successes,
        "success": successes / len(rows),
        "low": low,
        "high": high,
        "steps": _mean([row.steps for row in whole]),
        "steps_of_successes": _mean([row.steps for row in whole if row.success]),
        "dropped": dict(sorted(Counter(row.drop_reason for row in rows if row.drop_reason is not None).items())),
    }


def results(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    """`summarise` of all of n ≥ 1 episodes (``total``) and of each suite (``suites``), in the order of their first episodes, and
    in it of each task (``tasks``)."""
    return {"total": summarise(rows), "suites": [_suite(name, of) for name, of in _by(rows, "suite").items()]}


def _suite(name: str, rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    tasks = sorted(_by(rows, "task_id").items())
    of_tasks = [{"task_id": i, "instruction": of[0].instruction} | summarise(of) for i, of in tasks]
    return {"suite": name} | summarise(rows) | {"tasks": of_tasks}


def _by(rows: Sequence[EpisodeRow], name: str) -> dict[Any, list[EpisodeRow]]:
    """Rows by the value of a column."""
    found: dict[Any, list[EpisodeRow]] = {}
    for row in rows:
        found.setdefault(getattr(row, name), []).append(row)
    return found


def write_results(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``results.json``, atomically."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / RESULTS, lambda stream: stream.write(text.encode()))


def read_results(folder: Path) -> dict[str, Any]:
    """The content of ``results.json``.

    Raises:
        ValueError: the folder is that of no evaluation.
    """
    file = folder / RESULTS
    try:
        content = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is no folder of an evaluation: {file} cannot be read ({error})") from error
    if not isinstance(content, dict) or "settings" not in content:
        raise ValueError(f"{folder} is no folder of an evaluation: {file} was not written by siirl.client.evaluate")
    return content


def show_results(content: Mapping[str, Any], console: Console) -> None:
    """Print a table per suite, a line per task; below it each suite and all together where there are several."""
    table = new_table("success", "rate", "95 %", "steps")
    for suite in content["suites"]:
        for task in suite["tasks"]:
            table.add_row(label(f"{task['task_id']} {task['instruction']}"), *_cells(task))
        table.add_row(label(suite["suite"]), *_cells(suite), style="bold")
    if len(content["suites"]) > 1:
        table.add_row(f"all {len(content['suites'])} suites", *_cells(content["total"]), style="bold")
    console.print(table)
    for line in _notes(content["total"]):
        console.print(line, soft_wrap=True)


def new_table(*columns: str) -> Table:
    """A table of tasks with ``columns`` of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def label(name: str) -> Text:
    """The first cell of a line, cut where the terminal is narrow: the numbers come first."""
    return Text(name, no_wrap=True, overflow="ellipsis")


def _cells(numbers: Mapping[str, Any]) -> tuple[str, ...]:
    interval = f"{percent(numbers['low'])}–{percent(numbers['high'])}"
    steps = "–" if numbers["steps"] is None else f"{numbers['steps']:.0f}"
    return f"{numbers['successes']}/{numbers['episodes']}", percent(numbers["success"]), interval, steps


def _notes(total: Mapping[str, Any]) -> Iterator[str]:
    if dropped := total["dropped"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        yield f"{sum(dropped.values())} of {total['episodes']} episodes were dropped and count as failures: {reasons}"


def percent(rate: float) -> str:
    """A rate in percent, e.g. ``97.4``."""
    return f"{100 * rate:.1f}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
