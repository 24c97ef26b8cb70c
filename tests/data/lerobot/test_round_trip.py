"""What is written is read back bit for bit; datasets grow, and survive a writer that was killed; LeRobot's own are read."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.data.lerobot import Columns, DatasetWriter, ShardWriter, read
from siirl.data.lerobot.stats import aggregate, of_frames, of_vectors
from tests.data.lerobot import golden
from tests.data.lerobot.folders import FPS, Recorded, episode, write

GOLDEN = Path(__file__).parents[2] / "golden" / "lerobot_v3"


def assert_holds(root: Path, wanted: list[Recorded]) -> None:
    data = read(root)
    assert len(data.demos) == len(wanted)
    for number, (demo, (recorded, frames)) in enumerate(zip(data.demos, wanted, strict=True)):
        assert (demo.index, demo.instruction) == (number, recorded.instruction)
        assert demo.trial == recorded.labels["trial_id"]
        np.testing.assert_array_equal(demo.states, recorded.states)
        np.testing.assert_array_equal(demo.actions, recorded.actions)
        np.testing.assert_array_equal(data.frames(demo, range(len(frames))), frames)
        some = [1, len(frames) - 1]
        np.testing.assert_array_equal(data.frames(demo, some), frames[some])


def test_round_trip_is_lossless_over_several_files_and_tasks(tmp_path: Path) -> None:
    episodes = [episode(3, 5), episode(1, 31, instruction="push the plate"), episode(2, 4), episode(9, 12)]
    write(tmp_path, [episodes[:2], episodes[2:]])
    assert_holds(tmp_path, episodes)
    assert sorted(p.name for p in (tmp_path / "data/chunk-000").iterdir()) == ["file-000.parquet", "file-001.parquet"]
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (4, 52, 2, FPS)
    rows = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in rows] == [(0, 5), (5, 36), (36, 40), (40, 52)]
    starts = [r["videos/observation.images.image/from_timestamp"] for r in rows]
    assert starts == pytest.approx([0, 5 / FPS, 0, 4 / FPS])


def test_a_dataset_grows_and_remembers_its_labels(tmp_path: Path) -> None:
    episodes = [episode(trial) for trial in range(3)]
    write(tmp_path, [episodes[:1]])
    writer = write(tmp_path, [episodes[1:]])
    assert [label["trial_id"] for label in writer.labels] == [0, 1, 2]
    assert_holds(tmp_path, episodes)


@pytest.mark.parametrize("until", ["meta/tasks.parquet", "meta/stats.json", "meta/info.json"])
def test_a_writer_that_was_killed_between_two_files_is_continued(tmp_path: Path, until: str) -> None:
    episodes = [episode(0), episode(1, instruction="push the plate"), episode(2)]
    write(tmp_path, [episodes[:1]])
    files = ["meta/tasks.parquet", "meta/stats.json", "meta/info.json"]
    kept = {name: (tmp_path / name).read_bytes() for name in files[files.index(until) :]}
    write(tmp_path, [episodes[1:2]])
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"counts 1 episodes, but meta/episodes has 2: it is being written"):
        read(tmp_path)
    writer = write(tmp_path, [episodes[1:2], episodes[2:]])
    assert [label["trial_id"] for label in writer.labels] == [0, 1, 2]
    assert_holds(tmp_path, episodes)


def test_a_shard_without_episodes_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, [[episode(0)]])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    write_nothing = ShardWriter(tmp_path / ".partial.mp4", FPS, (32, 32)).close()
    DatasetWriter(tmp_path, FPS, (32, 32), 8, 7).append(write_nothing)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_another_dataset_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path, [[episode(0)]])
    with pytest.raises(ValueError, match="another image size"):
        write(tmp_path, [[episode(1, size=48)]])


def test_frames_are_turned_on_request(tmp_path: Path) -> None:
    recorded = episode(0)
    write(tmp_path, [[recorded]])
    data = read(tmp_path, Columns(rotated=True))
    np.testing.assert_array_equal(data.frames(data.demos[0], [2])[0], np.rot90(recorded[1][2], 2))


@pytest.mark.parametrize("kind", ["video", "images"])
def test_what_lerobot_wrote_is_read(kind: str) -> None:
    data = read(GOLDEN / kind)
    assert data.info.fps == golden.FPS
    assert [(len(d.actions), d.instruction) for d in data.demos] == golden.EPISODES
    assert [d.trial for d in data.demos] == [0, 1, 2]
    for demo in data.demos:
        steps = range(len(demo.actions))
        np.testing.assert_array_equal(demo.states, [golden.state(demo.index, s) for s in steps])
        np.testing.assert_array_equal(demo.actions, [golden.action(demo.index, s) for s in steps])
    frames = np.concatenate([data.frames(d, range(len(d.actions))) for d in data.demos])
    if kind == "images":
        np.testing.assert_array_equal(
            frames, [golden.picture(d.index, s) for d in data.demos for s in range(len(d.actions))]
        )
    else:
        decoded = np.load(GOLDEN / "video_blocks.npy", allow_pickle=False).astype(float)
        np.testing.assert_allclose(golden.blocks(frames), decoded, atol=1)
        assert np.abs(decoded[1:] - decoded[:-1]).max((1, 2, 3)).min() > 10, "neighbours could be taken for each other"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 1000))
def test_aggregated_statistics_are_those_of_everything(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, 3)) for n in lengths]
    together, exact = aggregate([of_vectors(p) for p in parts]), of_vectors(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(together[name], exact[name], atol=1e-9)
    assert (together["q01"] >= exact["min"]).all()
    assert (together["q99"] <= exact["max"]).all()


def test_statistics_of_frames_are_those_of_their_pixels() -> None:
    frames = np.random.default_rng(0).integers(3, 250, (4, 8, 8, 3), dtype=np.uint8)
    found, pixels = of_frames(frames), frames.reshape(-1, 3) / 255
    assert found["mean"].shape == (3, 1, 1)
    for name, value in {
        "mean": pixels.mean(0),
        "std": pixels.std(0),
        "min": pixels.min(0),
        "max": pixels.max(0),
    }.items():
        np.testing.assert_allclose(found[name].ravel(), value, atol=1e-9)
    wanted = np.quantile(pixels, 0.5, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(found["q50"].ravel(), wanted)
