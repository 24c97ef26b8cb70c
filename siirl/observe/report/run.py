"""What a run folder holds, read leniently: a page about a run that was killed, or is still running, is a page all the same."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from siirl.observe.episodes import read_episodes
from siirl.observe.journal import JOURNAL
from siirl.observe.results import RESULTS, read_results
from siirl.observe.timeline import TIMELINE
from siirl.training.checkpoint import CONFIG, METRICS, PLAN

TIMELINES = 9

Row = dict[str, Any]
TaskKey = tuple[str, int]


@dataclass(frozen=True)
class Episodes:
    """The episodes of a run, or some of them, as columns.

    Attributes:
        table: columns as `siirl.observe.episodes.SCHEMA` has them.
    """

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> np.ndarray:
        """A column; missing numbers are NaN, missing texts None."""
        column = self.table[name]
        if pa.types.is_boolean(column.type) and column.null_count:
            column = column.cast(pa.float64())
        return column.to_numpy(zero_copy_only=False)

    @cached_property
    def step(self) -> np.ndarray:
        """Training step of each."""
        return self.column("step")

    @cached_property
    def success(self) -> np.ndarray:
        """Whether each succeeded, bool."""
        return self.column("success").astype(bool)

    @cached_property
    def kept(self) -> np.ndarray:
        """Whether the group of each passed the filter, bool."""
        return self.column("kept").astype(float) == 1

    def where(self, mask: np.ndarray) -> "Episodes":
        """Those that ``mask``, bool [n], picks."""
        return Episodes(self.table.filter(pa.array(mask)))

    @cached_property
    def _splits(self) -> dict[str, "Episodes"]:
        return {}

    def of(self, split: str) -> "Episodes":
        """Those of a split."""
        if split not in self._splits:
            self._splits[split] = Episodes(self.table.filter(pc.equal(self.table["split"], split)))
        return self._splits[split]

    def valid(self) -> "Episodes":
        """Those without a reason to drop them."""
        return Episodes(self.table.filter(pc.is_null(self.table["drop_reason"])))

    def by_task(self) -> Iterator[tuple[TaskKey, str, "Episodes"]]:
        """Each task with its instruction and its episodes."""
        tasks = self.table.group_by(["suite", "task_id"]).aggregate([("instruction", "min")])
        rows = sorted(tasks.to_pylist(), key=lambda row: (row["suite"], row["task_id"]))
        for row in rows:
            picked = pc.and_(
                pc.equal(self.table["suite"], row["suite"]), pc.equal(self.table["task_id"], row["task_id"])
            )
            yield (row["suite"], row["task_id"]), row["instruction_min"], Episodes(self.table.filter(picked))


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it is.
        config: every key of its config.yaml by its dotted name.
        metrics: the lines of metrics.jsonl.
        episodes: every finished episode.
        timelines: the last lines of timeline.jsonl, at most `TIMELINES`: each may hold a hundred thousand events.
        plan: plan.json; None where there is none.
        journal: the lines of journal.jsonl.
        results: results.json, which only an evaluation has; None where there is none.
        alias: what to call it by instead of its own name.
    """

    folder: Path
    config: Row
    metrics: list[Row]
    episodes: Episodes
    timelines: list[Row]
    plan: Row | None
    journal: list[Row]
    results: Row | None = None
    alias: str | None = None

    @property
    def name(self) -> str:
        """What a page calls it by: its folder's name, unless there is an alias. Runs of one config share the experiment's."""
        return self.alias or self.folder.resolve().name

    @property
    def is_training(self) -> bool:
        """Whether steps were trained."""
        return any("time/step" in row for row in self.metrics)

    def metric(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a metric, of the lines that have it; null becomes NaN."""
        rows = [(row["step"], row[name]) for row in self.metrics if name in row]
        values = [np.nan if value is None else float(value) for _, value in rows]
        return np.array([step for step, _ in rows], int), np.array(values, float)

    def names(self, prefix: str) -> list[str]:
        """Metrics whose name begins with ``prefix``, in the order of their appearance."""
        return list(dict.fromkeys(name for row in self.metrics for name in row if name.startswith(prefix)))

    def total(self, name: str) -> float:
        """The sum of a metric over all lines."""
        return float(np.nansum(self.metric(name)[1]))

    @property
    def last_step(self) -> int:
        """The last step that was logged."""
        return max((row["step"] for row in self.metrics), default=0)


def tell_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs by their folders' names, or by the paths where two names are the same."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    return [replace(run, alias=str(run.folder)) for run in runs]


def read_run(folder: Path) -> Run:
    """Read a run folder, or one of an evaluation.

    Raises:
        ValueError: it is neither.
    """
    episodes = Episodes(read_episodes(folder)) if folder.is_dir() else None
    metrics = list(_json_lines(folder / METRICS))
    if episodes is None or not (metrics or len(episodes)):
        raise ValueError(
            f"{folder}: allowed: the folder of a run or of an evaluation, with {METRICS} or episodes in it. Fix: name "
            "what trainer.default_local_dir was, or wait until the first step is done."
        )
    return Run(
        folder=folder,
        config=dict(flatten(_yaml(folder / CONFIG))),
        metrics=[row for row in metrics if "step" in row],
        episodes=episodes,
        timelines=list(deque(_json_lines(folder / TIMELINE), maxlen=TIMELINES)),
        plan=json.loads((folder / PLAN).read_text()) if (folder / PLAN).is_file() else None,
        journal=list(_json_lines(folder / JOURNAL)),
        results=read_results(folder) if (folder / RESULTS).is_file() else None,
    )


def _json_lines(file: Path) -> Iterator[Row]:
    """The lines of a file; one that is being written, or that a crash cut short, is left out."""
    if not file.is_file():
        return
    with file.open() as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def _yaml(file: Path) -> Row:
    return (yaml.safe_load(file.read_text()) or {}) if file.is_file() else {}


def flatten(tree: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested config."""
    for name, value in tree.items():
        if isinstance(value, dict) and value and not name.endswith("component_placement"):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
