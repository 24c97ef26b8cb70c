"""Writes LeRobotDataset v3.0 folders, shard by shard: a shard is one data file and one video file of some episodes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from siirl.data.files import move_durably, write_atomically
from siirl.data.lerobot import stats, video
from siirl.data.lerobot.layout import (
    BOOKKEEPING,
    DATA_PATH,
    EPISODES,
    FILES_PER_CHUNK,
    INFO,
    STATS,
    TASKS,
    VERSION,
    VIDEO_PATH,
    Columns,
    read_info,
)
from siirl.data.lerobot.reader import read_table

NAMES = Columns()
LABELS = {"task_id": "int64", "trial_id": "int64", "noise": "float32"}
"""What a collection says of an episode, as features that are the same in all of its rows."""
OUTCOME = {"success": "int64"}
"""What it also says where episodes may have failed."""


@dataclass(frozen=True)
class Episode:
    """One episode of L steps, to be written.

    Attributes:
        instruction: the language goal.
        states: float32 [L, D].
        actions: float32 [L, A].
        labels: values of `LABELS`, and of `OUTCOME` where the dataset has it.
    """

    instruction: str
    states: np.ndarray
    actions: np.ndarray
    labels: Mapping[str, float]


@dataclass(frozen=True)
class Shard:
    """Episodes whose frames wait in ``file`` (MP4), one after another, with the statistics of each one's frames."""

    file: Path
    episodes: list[Episode]
    frame_stats: list[stats.Stats]


class ShardWriter:
    """Encodes the frames of some episodes, in any process; `DatasetWriter.append` makes them part of the dataset."""

    def __init__(self, file: Path, fps: int, size: tuple[int, int]):
        self._shard = Shard(file, [], [])
        self._video = video.VideoWriter(file, fps, *size)

    def add(self, episode: Episode, frames: np.ndarray) -> None:
        """Append an episode and its ``frames`` uint8 [L, H, W, 3], one per step."""
        assert len(frames) == len(episode.states) == len(episode.actions) > 0
        self._video.add(frames)
        self._shard.episodes.append(episode)
        self._shard.frame_stats.append(stats.of_frames(frames))

    def close(self) -> Shard:
        """Finish the video."""
        self._video.close()
        return self._shard


class DatasetWriter:
    """A dataset that grows by shards. ``meta/info.json`` is replaced last: what it does not count is not part of the dataset
    and is overwritten by the next shard, so a killed writer leaves a dataset that is valid or can be continued."""

    def __init__(
        self, root: Path, fps: int, size: tuple[int, int], state_dim: int, action_dim: int, outcomes: bool = False
    ):
        """Continue the dataset in ``root``, or start one.

        Args:
            root: its folder.
            fps: steps per second.
            size: height and width of the frames.
            state_dim, action_dim: lengths of the vectors.
            outcomes: whether episodes are labelled with `OUTCOME`.

        Raises:
            ValueError: the folder holds a dataset with other features, or one that another program has changed.
        """
        self.root, self.fps = root, fps
        self._labels = LABELS | (OUTCOME if outcomes else {})
        self._features = _features(fps, size, state_dim, action_dim, self._labels)
        self._episodes: list[dict[str, Any]] = []
        self._tasks: list[str] = []
        self.labels: list[dict[str, float]] = []
        """Labels of the episodes that the dataset has."""
        if (root / INFO).exists():
            self._resume()

    def _resume(self) -> None:
        info = read_info(self.root, NAMES)
        if info.features != self._features:
            raise ValueError(
                f"{self.root} holds a dataset with other features or another image size; name another folder"
            )
        files = sorted((self.root / EPISODES).rglob("*.parquet"))
        if len(files) != 1:
            raise ValueError(
                f"{self.root / EPISODES} has {len(files)} files, not 1: another program changed it; name another folder"
            )
        self._episodes = read_table(files[0]).to_pylist()[: info.episodes]
        tasks = read_table(self.root / TASKS).to_pylist()
        self._tasks = [t["task"] for t in sorted(tasks, key=lambda t: t["task_index"])]
        for file in dict.fromkeys(DATA_PATH.format(**_place(e, "data")) for e in self._episodes):
            rows = read_table(self.root / file, ["frame_index", *self._labels]).to_pylist()
            self.labels += [{name: row[name] for name in self._labels} for row in rows if row["frame_index"] == 0]

    def append(self, shard: Shard) -> None:
        """Add the episodes of a shard, if it has any; its file is moved into the dataset."""
        if not shard.episodes:
            shard.file.unlink(missing_ok=True)
            return
        number = 1 + max(
            (e["data/chunk_index"] * FILES_PER_CHUNK + e["data/file_index"] for e in self._episodes), default=-1
        )
        place = {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}
        self._tasks += [t for t in dict.fromkeys(e.instruction for e in shard.episodes) if t not in self._tasks]
        rows: list[dict[str, Any]] = []
        tables: list[pa.Table] = []
        for episode, frame_stats in zip(shard.episodes, shard.frame_stats, strict=True):
            columns = self._columns(
                episode, len(self._episodes) + len(rows), self._total_frames() + sum(r["length"] for r in rows)
            )
            start = sum(r["length"] for r in rows) / self.fps
            rows.append(_episode_row(episode, columns, frame_stats, place, start, self.fps))
            tables.append(_data_table(columns))
        target = self.root / VIDEO_PATH.format(video_key=NAMES.camera, **place)
        target.parent.mkdir(parents=True, exist_ok=True)
        move_durably(shard.file, target)
        table = pa.concat_tables(tables)
        write_atomically(self.root / DATA_PATH.format(**place), lambda stream: pq.write_table(table, stream))
        self._episodes += rows
        self.labels += [dict(e.labels) for e in shard.episodes]
        self._write_meta()

    def _total_frames(self) -> int:
        return sum(e["length"] for e in self._episodes)

    def _columns(self, episode: Episode, number: int, first_row: int) -> dict[str, np.ndarray]:
        """All columns of an episode's rows but the frames, [L] or [L, D]."""
        length = len(episode.actions)
        steps = np.arange(length)
        values = {
            NAMES.state: episode.states,
            NAMES.action: episode.actions,
            "timestamp": steps / self.fps,
            "frame_index": steps,
            "episode_index": np.full(length, number),
            "index": first_row + steps,
            "task_index": np.full(length, self._tasks.index(episode.instruction)),
            **{name: np.full(length, episode.labels[name]) for name in self._labels},
        }
        return {name: np.asarray(value, self._features[name]["dtype"]) for name, value in values.items()}

    def _write_meta(self) -> None:
        episodes = pa.Table.from_pylist(self._episodes)
        write_atomically(
            self.root / EPISODES / "chunk-000/file-000.parquet", lambda stream: pq.write_table(episodes, stream)
        )
        write_atomically(self.root / TASKS, lambda stream: pq.write_table(_task_table(self._tasks), stream))
        names = [key.removeprefix("stats/").rsplit("/", 1) for key in self._episodes[0] if key.startswith("stats/")]
        everything = {
            feature: stats.aggregate(
                [{s: np.array(e[f"stats/{f}/{s}"]) for f, s in names if f == feature} for e in self._episodes]
            )
            for feature in dict.fromkeys(feature for feature, _ in names)
        }
        _write_json(self.root / STATS, {f: {n: v.tolist() for n, v in s.items()} for f, s in everything.items()})
        _write_json(self.root / INFO, self._info())

    def _info(self) -> dict[str, Any]:
        count = len(self._episodes)
        return {
            "codebase_version": VERSION,
            "robot_type": "panda",
            "total_episodes": count,
            "total_frames": self._total_frames(),
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{count}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": self._features,
        }


def _features(
    fps: int, size: tuple[int, int], state_dim: int, action_dim: int, labels: Mapping[str, str]
) -> dict[str, Any]:
    def feature(dtype: str, length: int = 1) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [length], "names": None}

    axes = ["height", "width", "channel"]
    camera = {"dtype": "video", "shape": [*size, 3], "names": axes, "info": video.describe(fps, *size)}
    vectors = {NAMES.state: feature("float32", state_dim), NAMES.action: feature("float32", action_dim)}
    return {NAMES.camera: camera, **vectors, **{n: feature(t) for n, t in {**BOOKKEEPING, **labels}.items()}}


def _place(row: dict[str, Any], prefix: str) -> dict[str, int]:
    return {name: row[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}


def _episode_row(
    episode: Episode,
    columns: dict[str, np.ndarray],
    frame_stats: stats.Stats,
    place: dict[str, int],
    start: float,
    fps: int,
) -> dict[str, Any]:
    """An episode's row of ``meta/episodes``; ``start`` is the time of its first frame in the video, in seconds."""
    length, first = len(episode.actions), int(columns["index"][0])
    row: dict[str, Any] = {
        "episode_index": int(columns["episode_index"][0]),
        "tasks": [episode.instruction],
        "length": length,
    }
    row |= {f"data/{name}": value for name, value in place.items()}
    row |= {"dataset_from_index": first, "dataset_to_index": first + length}
    video_row = {**place, "from_timestamp": start, "to_timestamp": start + length / fps}
    row |= {f"videos/{NAMES.camera}/{name}": value for name, value in video_row.items()}
    described = {NAMES.camera: frame_stats}
    described |= {name: stats.of_vectors(value.reshape(length, -1)) for name, value in columns.items()}
    row |= {f"stats/{f}/{name}": value.tolist() for f, values in described.items() for name, value in values.items()}
    return row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def _data_table(columns: dict[str, np.ndarray]) -> pa.Table:
    def column(values: np.ndarray) -> pa.Array:
        flat = pa.array(values.ravel())
        return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    return pa.table({name: column(values) for name, values in columns.items()})


def _task_table(tasks: list[str]) -> pa.Table:
    """Task and index; the metadata makes ``task`` the index of the table where pandas reads it, as LeRobot expects."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    number = {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
        "metadata": None,
    }
    text = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": [number, text], "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_json(file: Path, content: object) -> None:
    write_atomically(file, lambda stream: stream.write(json.dumps(content, indent=2).encode()))
