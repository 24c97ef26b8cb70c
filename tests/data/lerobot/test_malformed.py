"""Every folder that cannot be read is refused by a ValueError that names the file."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siirl.data.lerobot import Columns, read
from siirl.data.lerobot.reader import read_table
from tests.data.lerobot.folders import episode, write

GOLDEN = Path(__file__).parents[2] / "golden" / "lerobot_v3"
VIDEO = "videos/observation.images.image/chunk-000/file-000.mp4"
DATA = "data/chunk-000/file-000.parquet"
CAMERA = "videos/observation.images.image"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
Break = Callable[[Path], None]


def read_all(root: Path, columns: Columns | None = None) -> None:
    data = read(root, columns)
    for demo in data.demos:
        data.frames(demo, range(len(demo.actions)))


def info(**changes: object) -> Break:
    def change(root: Path) -> None:
        file = root / "meta/info.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def feature(name: str, **changes: object) -> Break:
    def change(root: Path) -> None:
        file = root / "meta/info.json"
        content = json.loads(file.read_text())
        content["features"][name] |= changes
        file.write_text(json.dumps(content))

    return change


def remove(name: str) -> Break:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def content(name: str, data: bytes) -> Break:
    return lambda root: (root / name).write_bytes(data) and None


def cut(name: str) -> Break:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-900]) and None


def table(name: str, change: Callable[[pa.Table], pa.Table]) -> Break:
    return lambda root: pq.write_table(change(pq.read_table(root / name)), root / name)


def put(column: str, values: object) -> Callable[[pa.Table], pa.Table]:
    return lambda t: t.set_column(t.column_names.index(column), column, pa.array(values, t[column].type))


def become(column: str, values: list[object]) -> Callable[[pa.Table], pa.Table]:
    """As `put`, with the type of ``values``."""
    return lambda t: t.set_column(t.column_names.index(column), column, pa.array(values))


def without_a_frame(root: Path) -> None:
    other = root / "other"
    write(other, [[episode(0, 7), episode(1, 6)]])
    (other / VIDEO).replace(root / VIDEO)


def larger_frames(root: Path) -> None:
    other = root / "other"
    write(other, [[episode(0, 7, size=48), episode(1, 7, size=48)]])
    (other / VIDEO).replace(root / VIDEO)


NAN = [[np.nan] * 7] + [[0.0] * 7] * 13
CASES: dict[str, tuple[Break, str]] = {
    "no info": (remove("meta/info.json"), "is no LeRobotDataset: there is no meta/info.json"),
    "info is no JSON": (content("meta/info.json", b"{"), r"info\.json is no LeRobotDataset description"),
    "info is a list": (content("meta/info.json", b"[]"), r"info\.json is no LeRobotDataset description"),
    "v2.1": (info(codebase_version="v2.1"), r"is v2\.1; allowed: v3\.0\. Convert it .*convert_dataset_v21_to_v30"),
    "v9": (info(codebase_version="v9.0"), r"is v9\.0; allowed: v3\.0"),
    "no episodes": (info(total_episodes=0), "counts no episodes"),
    "too many episodes": (info(total_episodes=3), "counts 3 episodes, but meta/episodes has 2"),
    "other frames": (info(total_frames=15), "counts 15 frames, but the episodes have 14 rows"),
    "too few frames": (info(total_frames=13), "counts 13 frames, but the data files have 14 rows"),
    "infinite frames": (info(total_frames=np.inf), r"info\.json: total_frames is inf; allowed: a whole number from 0"),
    "huge episodes": (info(total_episodes=10**18), r"total_episodes is 10{18}; allowed: a whole number from 0 to"),
    "text episodes": (info(total_episodes="many"), r"info\.json: total_episodes is 'many'; allowed: a whole number"),
    "long number": (content("meta/info.json", b"9" * 5000), r"info\.json is no LeRobotDataset description"),
    "deep nesting": (content("meta/info.json", b"[" * 100_000), r"info\.json is no LeRobotDataset description"),
    "fps": (info(fps=0), "fps is 0"),
    "text fps": (info(fps="abc"), r"info\.json: fps is 'abc'; allowed: a positive number"),
    "null fps": (info(fps=None), "fps is None; allowed: a positive number"),
    "text side": (
        feature("observation.images.image", shape=["a", 3, 3]),
        r"image is 'a'; allowed: a whole number from 1",
    ),
    "huge side": (feature("observation.images.image", shape=[10**5, 32, 3]), "is 100000; allowed: .* from 1 to 4096"),
    "text vector": (feature("action", shape=["a"]), "the length of action is 'a'; allowed: a whole number from 1"),
    "paths": (info(data_path="/etc/{chunk_index}"), "data_path is '/etc/"),
    "data outside": (info(data_path="../" + DATA), r"data_path is '\.\./data"),
    "video outside": (info(video_path="videos/../../{video_key}.mp4"), r"video_path is 'videos/\.\./\.\./"),
    "depth": (feature("observation.images.image", shape=[32, 32, 1]), r"has shape \[32, 32, 1\]; allowed: \[height"),
    "vector camera": (feature("observation.images.image", dtype="float32"), "dtype 'float32'; allowed: video or image"),
    "matrix": (feature("action", shape=[7, 2]), r"action has shape \[7, 2\]; allowed: one dimension"),
    "action length": (feature("action", shape=[6]), r"file-000\.parquet: action is not 6 numbers in each row"),
    "no tasks": (remove("meta/tasks.parquet"), r"tasks\.parquet is missing"),
    "tasks columns": (
        table("meta/tasks.parquet", lambda t: t.drop_columns("task")),
        "has no columns task and task_index",
    ),
    "unknown task": (table(DATA, put("task_index", [5] * 14)), r"has task 5, which meta/tasks\.parquet does not hold"),
    "no episode files": (remove("meta/episodes"), "holds no chunk-000/file-000.parquet"),
    "cut episodes": (cut(EPISODES), r"file-000\.parquet cannot be read"),
    "episode column": (table(EPISODES, lambda t: t.drop_columns("length")), "has no column length"),
    "null length": (table(EPISODES, put("length", [None, 7])), "length of episode 0 is None; allowed: a whole number"),
    "text length": (table(EPISODES, become("length", ["7", "7"])), "length of episode 0 is '7'; allowed: a whole"),
    "no length": (table(EPISODES, put("length", [0, 14])), "length of episode 0 is 0; allowed: a whole number from 1"),
    "null episode": (table(EPISODES, put("episode_index", [None, 1])), "an episode_index is None; allowed: a whole"),
    "episode twice": (table(EPISODES, put("episode_index", [1, 1])), "has an episode 1 in place of 0"),
    "text chunk": (table(EPISODES, become("data/chunk_index", ["../..", "0"])), r"data/chunk_index .* is '\.\./\.\.'"),
    "float chunk": (table(EPISODES, become(f"{CAMERA}/chunk_index", [0.5, 0])), r"chunk_index of episode 0 is 0\.5"),
    "negative file": (table(EPISODES, put("data/file_index", [-1, 0])), "data/file_index of episode 0 is -1"),
    "infinite time": (table(EPISODES, put(f"{CAMERA}/from_timestamp", [np.inf, 0])), "is inf; allowed: seconds"),
    "text time": (table(EPISODES, become(f"{CAMERA}/from_timestamp", ["0", "1"])), "is '0'; allowed: seconds"),
    "trial list": (table(DATA, become("trial_id", [[1]] * 14)), r"file-000\.parquet: trial_id holds list"),
    "null trial": (table(DATA, put("trial_id", [None] * 14)), r"trial_id holds int64 \(14 null\)"),
    "text step": (table(DATA, become("frame_index", ["0"] * 14)), "frame_index holds string"),
    "number task": (table("meta/tasks.parquet", become("task", [5])), r"tasks\.parquet: task 0 is 5; allowed: a text"),
    "null task index": (table("meta/tasks.parquet", put("task_index", [None])), "a task_index is None; allowed"),
    "other length": (table(EPISODES, put("length", [6, 8])), "has 7 rows of episode 0, not 6 in order"),
    "no data": (remove(DATA), r"data/chunk-000/file-000\.parquet is missing"),
    "cut data": (cut(DATA), r"data/chunk-000/file-000\.parquet cannot be read"),
    "data column": (table(DATA, lambda t: t.drop_columns("observation.state")), "has no column observation.state"),
    "rows": (table(DATA, lambda t: t.slice(0, 13)), "has 6 rows of episode 1, not 7 in order"),
    "order": (table(DATA, put("frame_index", [1, 0, *range(2, 7), *range(7)])), "rows of episode 0, not 7 in order"),
    "nan": (table(DATA, put("action", NAN)), "action is not finite in row 0"),
    "no video": (remove(VIDEO), r"file-000\.mp4 is missing"),
    "cut video": (cut(VIDEO), r"file-000\.mp4 cannot be decoded .*cut off"),
    "no video at all": (content(VIDEO, b"#EXTM3U\nhttp://localhost/x"), r"file-000\.mp4 cannot be decoded"),
    "fewer frames": (without_a_frame, r"file-000\.mp4 has 13 frames, but its episodes have 14 rows"),
    "other size": (larger_frames, r"file-000\.mp4 has frames of 48×48; meta/info\.json says 32×32"),
    "times": (
        table(EPISODES, put("videos/observation.images.image/from_timestamp", [0.02, 9])),
        r"file-000\.mp4 has no frame at 0\.020 s",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_folder_is_refused(case: str, tmp_path: Path) -> None:
    write(tmp_path, [[episode(0), episode(1)]])
    read_all(tmp_path)
    damage, message = CASES[case]
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_all(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["camera", "state", "action"])
def test_a_missing_feature_is_told_with_those_that_there_are(name: str) -> None:
    columns = Columns(**{name: "observation.missing"})
    there = {"camera": "it has observation.images.image", "state": "it has observation.state, action"}.get(
        name, "it has"
    )
    with pytest.raises(ValueError, match=rf"info\.json has no feature 'observation\.missing'; {there}"):
        read(GOLDEN / "video", columns)


def test_a_video_whose_index_survived_is_refused_when_frames_are_missing(tmp_path: Path) -> None:
    """LeRobot puts the index in front, so a file that was cut off still opens."""
    shutil.copytree(GOLDEN / "video", tmp_path, dirs_exist_ok=True)
    cut(VIDEO)(tmp_path)
    with pytest.raises(ValueError, match=r"file-000\.mp4 (has no frame at|cannot be decoded)"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"bytes": None, "path": "/etc/passwd"}, "an image without its bytes"),
        ({"bytes": b"\x89PNG nothing", "path": None}, "a damaged image"),
    ],
)
def test_images_that_cannot_be_decoded_are_refused(cell: dict[str, object], message: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "images", tmp_path, dirs_exist_ok=True)
    table(DATA, lambda t: put("observation.images.image", [cell, *t["observation.images.image"].to_pylist()[1:]])(t))(
        tmp_path
    )
    with pytest.raises(ValueError, match=rf"file-000\.parquet holds {message}"):
        read_all(tmp_path)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "images", tmp_path, dirs_exist_ok=True)
    feature("observation.images.image", shape=[32, 64, 3])(tmp_path)
    with pytest.raises(ValueError, match=r"holds an image of 64×64; meta/info\.json says 32×64"):
        read_all(tmp_path)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A picture of 30,000² pixels would take 2.7 GB; a few bytes of a PNG claim one."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    shutil.copytree(GOLDEN / "images", tmp_path, dirs_exist_ok=True)
    cell = {"bytes": png, "path": None}
    table(DATA, lambda t: put("observation.images.image", [cell, *t["observation.images.image"].to_pylist()[1:]])(t))(
        tmp_path
    )
    with pytest.raises(ValueError, match=r"file-000\.parquet holds a damaged image \(Image size .* exceeds limit"):
        read_all(tmp_path)


def test_more_rows_than_the_description_counts_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [[episode(0), episode(1)]])
    read_tables: list[Path] = []

    def watched(file: Path, columns: list[str] | None = None) -> pa.Table:
        read_tables.append(file)
        return read_table(file, columns)

    monkeypatch.setattr("siirl.data.lerobot.reader.read_table", watched)
    info(total_frames=13)(tmp_path)
    with pytest.raises(ValueError, match="counts 13 frames"):
        read(tmp_path)
    info(total_episodes=1)(tmp_path)
    with pytest.raises(ValueError, match="counts 1 episodes"):
        read(tmp_path)
    assert read_tables.count(tmp_path / EPISODES) == 1
    assert tmp_path / DATA not in read_tables


def test_a_camera_whose_name_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [[episode(0)]])
    file = tmp_path / "meta/info.json"
    description = json.loads(file.read_text())
    description["features"]["../../secret"] = description["features"]["observation.images.image"]
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"info\.json: '\.\./\.\./secret' is a path; allowed: a name without '/'"):
        read(tmp_path, Columns(camera="../../secret"))
