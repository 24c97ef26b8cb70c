"""Names and paths of LeRobotDataset v3.0, and what ``meta/info.json`` says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "v3.0"
INFO, STATS, TASKS, EPISODES = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes"
FILES_PER_CHUNK = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has: seconds and steps since the episode's start, the episode, the row, the task."""
MOST_ROWS = 10**9
"""More episodes or frames than this are taken for a mistake."""
LONGEST_SIDE = 4096
"""Of a frame, in pixels, and of a vector."""


@dataclass(frozen=True)
class Columns:
    """Which features of a dataset are read. The defaults are those of the LIBERO datasets that LeRobot publishes.

    Attributes:
        camera: frames, uint8 [H, W, 3], stored as video or as images.
        state: proprioception, float32 [D].
        action: action, float32 [A].
        rotated: frames are stored upside down, as LIBERO renders them, and are turned by 180° when read.
    """

    camera: str = "observation.images.image"
    state: str = "observation.state"
    action: str = "action"
    rotated: bool = False


@dataclass(frozen=True)
class Info:
    """The part of ``meta/info.json`` that reading needs.

    Attributes:
        fps: rows per second.
        episodes, frames: totals.
        is_video: the camera is stored as MP4 and not as images in the data files.
        image_size: height and width of the camera.
        state_dim, action_dim: lengths of the vectors.
        features: all of them, by name.
    """

    fps: float
    episodes: int
    frames: int
    is_video: bool
    image_size: tuple[int, int]
    state_dim: int
    action_dim: int
    features: dict[str, Any]


def read_info(root: Path, columns: Columns) -> Info:
    """``meta/info.json``, checked.

    Raises:
        ValueError: there is none, it is of another version or layout, or lacks a feature.
    """
    file = root / INFO
    if not file.is_file():
        raise ValueError(f"{root} is no LeRobotDataset: there is no {INFO}. Name the folder that holds meta/ and data/")
    try:
        info = json.loads(file.read_text())
    except (ValueError, RecursionError, OSError) as error:  # no JSON, no UTF-8, too long a number, too deep a nesting
        raise ValueError(f"{file} is no LeRobotDataset description ({error}); download or write it again") from error
    try:
        _check_version(file, info)
        features = info["features"]
        camera = _feature(file, features, columns.camera, ("video", "image"))
        height, width = _image_size(file, columns.camera, camera)
        state_dim = _vector_length(file, features, columns.state)
        action_dim = _vector_length(file, features, columns.action)
        fps = info["fps"]
        episodes, frames = (whole(file, name, info[name], 0, MOST_ROWS) for name in ("total_episodes", "total_frames"))
        is_video = camera["dtype"] == "video"
        paths = {"data_path": DATA_PATH} | ({"video_path": VIDEO_PATH} if is_video else {})
        wrong = [f"{key} is {info[key]!r}; allowed: {path!r}" for key, path in paths.items() if info[key] != path]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no LeRobotDataset description ({error!r}); download or write it again") from error
    if wrong:
        raise ValueError(f"{file}: {', '.join(wrong)}, the layout of {VERSION}; rename the files accordingly")
    if is_video and "/" in columns.camera:
        raise ValueError(
            f"{file}: {columns.camera!r} is a path; allowed: a name without '/', as LeRobot's are: rename it"
        )
    if not (is_number(fps) and 0 < fps < 10_000):
        raise ValueError(f"{file}: fps is {fps!r:.80}; allowed: a positive number below 10000; correct it")
    if episodes < 1:
        raise ValueError(f"{file} counts no episodes; a dataset needs at least one: finish writing or downloading it")
    return Info(float(fps), episodes, frames, is_video, (height, width), state_dim, action_dim, features)


def is_number(value: object) -> bool:
    """It is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(file: Path, name: str, value: object, low: int, high: int) -> int:
    """``value``, which ``file`` gives as ``name``. Raises ValueError when it is no int from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(
            f"{file}: {name} is {value!r:.80}; allowed: a whole number from {low} to {high}; correct it, or get the dataset again"
        )
    return value


def _check_version(file: Path, info: dict[str, Any]) -> None:
    version = str(info["codebase_version"])
    if version.startswith("v2."):
        raise ValueError(
            f"{file}: codebase_version is {version}; allowed: {VERSION}. Convert it with LeRobot: "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=NAME "
            "(lerobot.datasets.v30.convert_dataset_v21_to_v30 before LeRobot 0.5)"
        )
    if version != VERSION:
        raise ValueError(f"{file}: codebase_version is {version}; allowed: {VERSION}")


def _feature(file: Path, features: dict[str, Any], name: str, dtypes: tuple[str, ...]) -> dict[str, Any]:
    if name not in features:
        alike = [n for n, f in features.items() if f["dtype"] in dtypes and n not in BOOKKEEPING]
        raise ValueError(f"{file} has no feature {name!r}; it has {', '.join(alike) or 'none of that kind'}: name one")
    feature = features[name]
    if feature["dtype"] not in dtypes:
        raise ValueError(f"{file}: {name} has dtype {feature['dtype']!r}; allowed: {' or '.join(dtypes)}")
    return feature


def _image_size(file: Path, name: str, feature: dict[str, Any]) -> tuple[int, int]:
    """Height and width of a feature that is [H, W, 3] or, in some datasets, [3, H, W]."""
    shape = feature["shape"]
    if len(shape) == 3 and shape[2] == 3:
        sides = shape[:2]
    elif len(shape) == 3 and shape[0] == 3:
        sides = shape[1:]
    else:
        raise ValueError(f"{file}: {name} has shape {shape!r:.80}; allowed: [height, width, 3] or [3, height, width]")
    height, width = (whole(file, f"a side of {name}", side, 1, LONGEST_SIDE) for side in sides)
    return height, width


def _vector_length(file: Path, features: dict[str, Any], name: str) -> int:
    shape = _feature(file, features, name, ("float32", "float64"))["shape"]
    if len(shape) != 1:
        raise ValueError(f"{file}: {name} has shape {shape!r:.80}; allowed: one dimension")
    return whole(file, f"the length of {name}", shape[0], 1, LONGEST_SIDE)
