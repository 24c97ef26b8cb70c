"""Every finished episode of a run or an evaluation, one row each: ``episodes/part-NNNNNN.parquet`` as they come, and one
``episodes.parquet`` once they have been compacted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from siirl.data.files import write_atomically
from siirl.data.trajectory import EpisodeSummary
from siirl.observe.backlog import Backlog

PARTS, COMPACTED = "episodes", "episodes.parquet"
CONTAINED = b"siirl.parts"
"""Metadata of `COMPACTED`: parts with a smaller number than this are contained in it."""

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("split", pa.string()),
        ("suite", pa.string()),
        ("task_id", pa.int64()),
        ("trial_id", pa.int64()),
        ("instruction", pa.string()),
        ("group_id", pa.int64()),
        ("index", pa.int64()),
        ("env_seed", pa.int64()),
        ("action_seed", pa.int64()),
        ("success", pa.bool_()),
        ("steps", pa.int64()),
        ("chunks", pa.int64()),
        ("truncated", pa.bool_()),
        ("drop_reason", pa.string()),
        ("retries", pa.int64()),
        ("seconds", pa.float64()),
        ("reward_sum", pa.float64()),
        ("policy_version", pa.int64()),
        ("reward", pa.float64()),
        ("kept", pa.bool_()),
        ("video", pa.string()),
        ("env", pa.string()),
        ("actions", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class EpisodeRow:
    """One finished episode.

    Attributes:
        step: the training step that it belongs to; 0 before training and in an evaluation.
        split: ``train``, ``val`` or ``eval``.
        suite, task_id, trial_id, instruction, group_id, env_seed, action_seed: as in `EpisodeSpec`.
        index: its position in its group; in an evaluation the repetition.
        success, steps, chunks, truncated, drop_reason, retries, seconds, policy_version: as in `EpisodeSummary`.
        reward_sum: of the simulator's rewards; NaN where one of them was.
        reward: what the workflow's reward gave it; None where it was not scored.
        kept: whether its group passed the filter; None where there is none.
        video: its file, relative to the run folder; None without one.
        env: as in `EpisodeSpec`; None in files of earlier versions.
        actions: in an evaluation, the actions that were executed, one after the other, as `siirl.client.export_episodes` replays
            them; else None.
    """

    step: int
    split: str
    suite: str
    task_id: int
    trial_id: int
    instruction: str
    group_id: int
    index: int
    env_seed: int
    action_seed: int
    success: bool
    steps: int
    chunks: int
    truncated: bool
    drop_reason: str | None
    retries: int
    seconds: float
    reward_sum: float
    policy_version: int
    reward: float | None = None
    kept: bool | None = None
    video: str | None = None
    env: str | None = None
    actions: list[float] | None = None

    @staticmethod
    def of(
        summary: EpisodeSummary,
        step: int,
        split: str,
        *,
        reward: float | None = None,
        kept: bool | None = None,
        with_actions: bool = False,
    ) -> "EpisodeRow":
        """The row of an episode, with its actions if they are wanted and it has any."""
        spec = summary.spec
        return EpisodeRow(
            step=step,
            split=split,
            suite=spec.suite,
            task_id=spec.task_id,
            trial_id=spec.trial_id,
            instruction=spec.instruction,
            group_id=spec.group_id,
            index=spec.index,
            env_seed=spec.env_seed,
            action_seed=spec.action_seed,
            success=summary.success,
            steps=summary.steps,
            chunks=summary.chunks,
            truncated=summary.truncated,
            drop_reason=summary.drop_reason,
            retries=summary.retries,
            seconds=summary.seconds,
            reward_sum=summary.reward_sum,
            policy_version=summary.policy_version,
            reward=reward,
            kept=kept,
            video=summary.video,
            env=spec.env,
            actions=summary.actions.ravel().tolist() if with_actions and summary.actions is not None else None,
        )


class EpisodeLog:
    """Appends rows to a folder's parts, each written atomically; a crash loses the rows that have not been flushed. While the
    disk is full, rows wait in memory. One folder has one log at a time.

    Args:
        folder: the run folder.
        resume_step: the step that a run resumes after: rows of later steps, which are run again, are removed. 0: a new run;
            nothing stays. None: everything that is there stays.
        flush_every: rows that make a part.
        flush_seconds: rows are also written when the first of them has waited this long and another one comes.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int | None = None,
        *,
        flush_every: int = 256,
        flush_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._flush_every, self._flush_seconds, self._clock = flush_every, flush_seconds, clock
        self._rows: list[EpisodeRow] = []
        self._since = 0.0
        _remove_leftovers(folder)
        if resume_step is not None:
            _keep_until(folder, resume_step)
        self._number = _next_number(folder)
        self._backlog: Backlog[EpisodeRow] = Backlog(str(folder / PARTS), self._write)

    def add(self, row: EpisodeRow) -> None:
        """Append a row."""
        if not self._rows:
            self._since = self._clock()
        self._rows.append(row)
        if len(self._rows) >= self._flush_every or self._clock() - self._since >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered, after what waits for a full disk: before a checkpoint, whose steps are not run again."""
        if self._rows:
            self._backlog.add(*self._rows)
            self._rows = []

    def close(self) -> None:
        """Flush; rows that cannot be written are told and lost."""
        self.flush()
        self._backlog.close()

    def _write(self, rows: Sequence[EpisodeRow]) -> None:
        table = pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA)
        _write_table(self._folder / PARTS / f"part-{self._number:06}.parquet", table)
        self._number += 1


def read_episodes(folder: Path) -> pa.Table:
    """Every row in a run folder, in the order in which they were added, with the columns of `SCHEMA`; none where there are no
    files."""
    tables = [SCHEMA.empty_table(), *(_read_table(file) for file in _files(folder))]
    return pa.concat_tables(tables, promote_options="default")  # columns that older files lack are empty


def compact(folder: Path) -> Path:
    """Put all parts of a log that is closed into ``episodes.parquet``; returns it. After a crash at any moment, `read_episodes`
    finds every row once."""
    compacted = folder / COMPACTED
    if _parts(folder) or not compacted.exists():
        _write_table(compacted, read_episodes(folder), {CONTAINED: str(_next_number(folder))})
        _remove_leftovers(folder)
    return compacted


def _files(folder: Path) -> list[Path]:
    """The files that hold the rows."""
    compacted, contained = folder / COMPACTED, _contained(folder)
    return [compacted] * compacted.exists() + [part for number, part in _parts(folder) if number >= contained]


def _parts(folder: Path) -> list[tuple[int, Path]]:
    """Every part with its number, ascending; those too that `compact` was killed before it removed them."""
    return sorted((int(part.stem.removeprefix("part-")), part) for part in (folder / PARTS).glob("part-*.parquet"))


def _contained(folder: Path) -> int:
    """The number of the first part that is not in ``episodes.parquet``."""
    compacted = folder / COMPACTED
    return int(pq.read_schema(compacted).metadata[CONTAINED]) if compacted.exists() else 0


def _next_number(folder: Path) -> int:
    """A number that no part has had."""
    return max([_contained(folder), *(number + 1 for number, _ in _parts(folder))])


def _remove_leftovers(folder: Path) -> None:
    """Remove parts that have been compacted, and what a write that was killed left behind."""
    contained = _contained(folder)
    for number, part in _parts(folder):
        if number < contained:
            part.unlink()
    for partial in [*folder.glob(f".{COMPACTED}.*"), *(folder / PARTS).glob(".part-*")]:
        partial.unlink()
    if (folder / PARTS).is_dir() and not any((folder / PARTS).iterdir()):
        (folder / PARTS).rmdir()


def _keep_until(folder: Path, step: int) -> None:
    """Remove the rows of later steps; with 0 all rows."""
    for file in _files(folder):
        table = _read_table(file)
        kept = table.filter(pc.less_equal(table["step"], step)) if step else table.slice(0, 0)
        if kept.num_rows == table.num_rows:
            continue
        if kept.num_rows or file.name == COMPACTED:
            _write_table(file, kept, pq.read_schema(file).metadata)
        else:
            file.unlink()


def _read_table(file: Path) -> pa.Table:
    return pq.ParquetFile(file).read().replace_schema_metadata(None)


def _write_table(file: Path, table: pa.Table, metadata: dict[bytes, str] | None = None) -> None:
    """Write a Parquet file atomically; what the disk refuses is an OSError with its number."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    content = sink.getvalue()
    write_atomically(file, lambda stream: stream.write(content))
