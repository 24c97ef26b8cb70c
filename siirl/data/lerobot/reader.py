"""Reads LeRobotDataset v3.0 folders. The files are untrusted: no pickles, and every claim of the metadata is checked."""

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from siirl.data.lerobot import video
from siirl.data.lerobot.layout import (
    DATA_PATH,
    EPISODES,
    INFO,
    MOST_ROWS,
    TASKS,
    VIDEO_PATH,
    Columns,
    Info,
    is_number,
    read_info,
    whole,
)

TRIAL, SUCCESS = "trial_id", "success"
MOST_SECONDS = 1e9  # of a video


@dataclass(frozen=True)
class Demo:
    """One episode of L steps, without its frames.

    Attributes:
        index: its number in the dataset.
        instruction: the language goal.
        trial: the initial state it started from, where the dataset says so (a feature ``trial_id``); otherwise ``index``.
        success: whether it reached the goal, where the dataset says so (a feature ``success``); otherwise None.
        states: proprioception, float32 [L, D].
        actions: float32 [L, A], un-normalised.
        file: where the frames are, and there
        row, start: the number of the first row (images) and the time of the first frame, in seconds (videos).
    """

    index: int
    instruction: str
    trial: int
    states: np.ndarray
    actions: np.ndarray
    file: Path
    row: int
    start: float
    success: bool | None = None


@dataclass(frozen=True)
class Demonstrations:
    """A dataset: states and actions in memory, frames on disk until they are asked for."""

    root: Path
    columns: Columns
    info: Info
    demos: list[Demo]

    def frames(self, demo: Demo, steps: Sequence[int]) -> np.ndarray:
        """The frames of ``demo`` at ``steps`` (ascending), uint8 [F, H, W, 3].

        Raises:
            ValueError: frames are missing, damaged or of another size; names the file.
        """
        if self.info.is_video:
            times = [demo.start + step / self.info.fps for step in steps]
            frames = video.read_frames(demo.file, times, self.info.fps, self.info.image_size)
        else:
            frames = self._images(demo, steps)
        return np.ascontiguousarray(frames[:, ::-1, ::-1]) if self.columns.rotated else frames

    def _images(self, demo: Demo, steps: Sequence[int]) -> np.ndarray:
        """As `frames`, of images inside a data file; only the row groups that hold the episode are read."""
        frames, begin = [], 0
        with _parquet(demo.file) as parquet:
            for group in range(parquet.num_row_groups):
                end = begin + parquet.metadata.row_group(group).num_rows
                rows = [demo.row + s - begin for s in steps if begin <= demo.row + s < end]
                if rows:
                    cells = parquet.read_row_group(group, columns=[self.columns.camera])[self.columns.camera]
                    frames += [_decode(demo.file, cells[row].as_py(), self.info.image_size) for row in rows]
                begin = end
        return np.stack(frames)


def _decode(file: Path, cell: Any, size: tuple[int, int]) -> np.ndarray:
    """One image, uint8 [H, W, 3], from its cell ``{bytes, path}``; ``path`` is never followed."""
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if not content:
        raise ValueError(f"{file} holds an image without its bytes; write the dataset with the images inside")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            height, width = image.height, image.width
            if (height, width) == size:
                return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, of damaged files
        raise ValueError(f"{file} holds a damaged image ({error}); get it again") from error
    raise ValueError(
        f"{file} holds an image of {height}×{width}; {INFO} says {size[0]}×{size[1]}: get it again, or write it with one size"
    )


def read(root: Path, columns: Columns | None = None) -> Demonstrations:
    """Open the dataset in ``root``; reads all states and actions, and no frame yet.

    Raises:
        ValueError: it is of another version, lacks a feature or a file, or contradicts itself; names file and fix.
    """
    columns = columns or Columns()
    info = read_info(root, columns)
    tasks = _read_tasks(root / TASKS)
    episodes = _read_episodes(root, info, columns)
    by_file: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for episode in episodes:
        place = {"chunk_index": episode["data/chunk_index"], "file_index": episode["data/file_index"]}
        by_file[root / DATA_PATH.format(**place)].append(episode)
    if (rows := sum(map(count_rows, by_file))) > info.frames:  # before they fill the memory
        raise ValueError(
            f"{root / INFO} counts {info.frames} frames, but the data files have {rows} rows; get it again"
        )
    demos = [d for file, members in by_file.items() for d in _read_data(file, members, info, columns, tasks)]
    demos.sort(key=lambda d: d.index)
    if (rows := sum(len(d.actions) for d in demos)) != info.frames:
        raise ValueError(f"{root / INFO} counts {info.frames} frames, but the episodes have {rows} rows; get it again")
    return Demonstrations(
        root, columns, info, _with_videos(root, demos, episodes, info, columns) if info.is_video else demos
    )


@contextmanager
def _parquet(file: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file. Raises ValueError when it is missing, or what the block reads of it damaged."""
    if not file.is_file():
        raise ValueError(f"{file} is missing; download or write the dataset again")
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read ({error}); get it again") from error


def count_rows(file: Path) -> int:
    """How many rows a Parquet file says it has. Raises ValueError when it is missing or damaged."""
    with _parquet(file) as parquet:
        return int(parquet.metadata.num_rows)


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file. Raises ValueError when it is missing, damaged, or lacks one of ``columns``."""
    with _parquet(file) as parquet:
        missing = sorted(set(columns or ()) - set(parquet.schema_arrow.names))
        if missing:
            raise ValueError(f"{file} has no column {', '.join(missing)}; get it again")
        return parquet.read(columns)


def _read_tasks(file: Path) -> dict[int, str]:
    """Instruction of each task_index. The instruction is pandas' index, which older versions of LeRobot leave unnamed."""
    table = read_table(file)
    name = next((n for n in ("task", "__index_level_0__") if n in table.column_names), None)
    if name is None or "task_index" not in table.column_names:
        raise ValueError(f"{file} has no columns task and task_index; get it again")
    tasks = dict(zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True))
    for number, task in tasks.items():
        whole(file, "a task_index", number, 0, MOST_ROWS)
        if not isinstance(task, str):
            raise ValueError(f"{file}: task {number} is {task!r:.80}; allowed: a text, the instruction; write it anew")
    return tasks


def _read_episodes(root: Path, info: Info, columns: Columns) -> list[dict[str, Any]]:
    """The rows of ``meta/episodes``, in order."""
    names = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if info.is_video:
        names += [f"videos/{columns.camera}/{n}" for n in ("chunk_index", "file_index", "from_timestamp")]
    files = sorted((root / EPISODES).glob("chunk-*/file-*.parquet"))
    if not files:
        raise ValueError(f"{root / EPISODES} holds no chunk-000/file-000.parquet; get the dataset again")
    if (count := sum(map(count_rows, files))) != info.episodes:
        raise ValueError(
            f"{root / INFO} counts {info.episodes} episodes, but {EPISODES} has {count}: it is being written, or was "
            "interrupted: finish writing or downloading it"
        )
    rows = [_checked_episode(f, row) for f in files for row in read_table(f, names).to_pylist()]
    rows.sort(key=lambda r: r["episode_index"])
    if wrong := next(((i, n) for i, r in enumerate(rows) if (n := r["episode_index"]) != i), None):
        raise ValueError(f"{root / EPISODES} has an episode {wrong[1]} in place of {wrong[0]}; get the dataset again")
    return rows


def _checked_episode(file: Path, row: dict[str, Any]) -> dict[str, Any]:
    """A row of ``meta/episodes`` whose numbers are numbers. Raises ValueError when one is not."""
    number = whole(file, "an episode_index", row["episode_index"], 0, MOST_ROWS)
    for name, value in row.items():
        of_episode = f"{name} of episode {number}"
        if not name.endswith("from_timestamp"):
            whole(file, of_episode, value, 1 if name == "length" else 0, MOST_ROWS)
        elif not (is_number(value) and 0 <= value < MOST_SECONDS):
            raise ValueError(f"{file}: {of_episode} is {value!r:.80}; allowed: seconds from 0 on; get it again")
    return row


def _read_data(
    file: Path, episodes: list[dict[str, Any]], info: Info, columns: Columns, tasks: dict[int, str]
) -> list[Demo]:
    """The episodes whose rows are in ``file``."""
    names = ["episode_index", "frame_index", "task_index", columns.state, columns.action]
    labels = [name for name in (TRIAL, SUCCESS) if name in info.features]
    table = read_table(file, [*names, *labels])
    members, all_steps, task_numbers = (_integers(file, table, name) for name in names[:3])
    trials = _integers(file, table, TRIAL) if TRIAL in labels else members
    outcomes = _integers(file, table, SUCCESS) if SUCCESS in labels else None
    states = _vectors(file, table, columns.state, info.state_dim)
    actions = _vectors(file, table, columns.action, info.action_dim)
    demos = []
    for episode in episodes:
        number, length = episode["episode_index"], episode["length"]
        rows = np.flatnonzero(members == number)
        steps = all_steps[rows]
        if len(rows) != length or (steps != np.arange(length)).any() or rows[-1] - rows[0] != length - 1:
            raise ValueError(f"{file} has {len(rows)} rows of episode {number}, not {length} in order; get it again")
        first = int(rows[0])
        instruction = tasks.get(task := int(task_numbers[first]))
        if instruction is None:
            raise ValueError(f"{file}: episode {number} has task {task}, which {TASKS} does not hold; get it again")
        part = slice(first, first + length)
        outcome = None if outcomes is None else bool(outcomes[first])
        demos.append(
            Demo(number, instruction, int(trials[first]), states[part], actions[part], file, first, 0.0, outcome)
        )
    return demos


def _integers(file: Path, table: pa.Table, name: str) -> np.ndarray:
    """A column of whole numbers, an integer dtype [rows]."""
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ValueError(
            f"{file}: {name} holds {column.type} ({column.null_count} null); allowed: a whole number in each row; get it again"
        )
    return column.to_numpy()


def _vectors(file: Path, table: pa.Table, name: str, length: int) -> np.ndarray:
    """A column of vectors, float32 [rows, length]."""
    column = table[name].combine_chunks()
    is_list = (
        pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type)
    )
    values = column.flatten() if is_list else column
    if not pa.types.is_floating(values.type) or values.null_count or len(values) != len(table) * length:
        raise ValueError(f"{file}: {name} is not {length} numbers in each row, as {INFO} says; get it again")
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, length)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(1))[0])
        raise ValueError(f"{file}: {name} is not finite in row {row}; remove that episode")
    return numbers


def _with_videos(
    root: Path, demos: list[Demo], episodes: list[dict[str, Any]], info: Info, columns: Columns
) -> list[Demo]:
    """``demos`` with the files and times of their frames; the files' headers are checked."""
    prefix = f"videos/{columns.camera}"
    placed: list[Demo] = []
    lengths: dict[Path, int] = defaultdict(int)
    for demo, episode in zip(demos, episodes, strict=True):
        place = {"chunk_index": episode[f"{prefix}/chunk_index"], "file_index": episode[f"{prefix}/file_index"]}
        file = root / VIDEO_PATH.format(video_key=columns.camera, **place)
        lengths[file] += len(demo.actions)
        placed.append(replace(demo, file=file, start=float(episode[f"{prefix}/from_timestamp"])))
    for file, length in lengths.items():
        video.check(file, info.image_size, length)
    return placed
