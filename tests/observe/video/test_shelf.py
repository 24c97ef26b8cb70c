"""The folder of a run's videos."""

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from siirl.config.schema import VideoConfig
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary
from siirl.observe.video import shelf as module
from siirl.observe.video.choice import Reel
from siirl.observe.video.shelf import Files, Shelf
from tests.observe.video.films import spec, trajectory


@dataclass
class Made:
    files: Files

    def result(self) -> Files:
        return self.files


class Worker:
    """Has a file of ``size`` bytes of whatever it is asked for."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.asked: list[EpisodeSpec] = []

    def videos(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> list[Made]:
        self.asked += specs
        return [Made([(episode, bytes(self.size))]) for episode in specs]


def ended(*episodes: EpisodeSpec, success: bool = False) -> list[EpisodeSummary]:
    return [trajectory(episode, success).summary for episode in episodes]


def shelf(folder: Path, **settings: object) -> Shelf:
    return Shelf(VideoConfig(save_video=True, **settings), folder, "train")  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.mp4"))


def test_chosen_episodes_have_their_file_where_their_summary_says(tmp_path: Path) -> None:
    worker, videos = Worker(), shelf(tmp_path)
    summaries = ended(*(spec(index=i) for i in range(3)))
    told = videos.keep(7, summaries, worker.videos)
    videos.close()
    start = "videos/train/step_000007/libero_spatial_task0_trial0_group0_rep"
    assert [s.video for s in told] == [f"{start}0_failure.mp4", f"{start}1_failure.mp4", None]
    assert names(tmp_path) == [s.video for s in told if s.video]
    assert told == [s if t.video is None else t for s, t in zip(summaries, told, strict=True)]


def test_without_videos_nobody_is_asked(tmp_path: Path) -> None:
    videos, worker = Shelf(VideoConfig(), tmp_path, "val"), Worker()
    summaries = ended(spec())
    assert videos.reel(1) is None
    assert videos.keep(1, summaries, worker.videos) == summaries
    videos.close()
    assert not worker.asked
    assert not list(tmp_path.iterdir())


def test_more_episodes_of_a_step_replace_those_that_come_after_them(tmp_path: Path) -> None:
    worker, videos = Worker(), shelf(tmp_path, max_per_task=1)
    late, early = ended(spec(index=5)), ended(spec(index=1))
    videos.keep(0, late, worker.videos)
    videos.keep(0, late + early, worker.videos)
    videos.keep(0, late + early, worker.videos)
    videos.close()
    assert [Path(name).stem[-12:] for name in names(tmp_path)] == ["rep1_failure"]
    assert worker.asked == [spec(index=5), spec(index=1)]


def test_what_an_earlier_attempt_at_a_step_left_is_removed(tmp_path: Path) -> None:
    first = shelf(tmp_path)
    for step in (1, 2):
        first.keep(step, ended(spec(index=0)), Worker().videos)
    first.close()
    again = shelf(tmp_path)
    again.keep(2, ended(spec(index=0), success=True), Worker().videos)
    again.close()
    assert [name.rpartition("/")[2][-16:] for name in names(tmp_path)] == ["rep0_failure.mp4", "rep0_success.mp4"]


def test_the_oldest_make_room_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    videos = shelf(tmp_path, max_total_mb=1)
    mine = videos.folder / "step_000001" / "mine.mp4"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(900_000))
    for step in range(1, 6):
        videos.keep(step, ended(spec()), Worker(400_000).videos)
    videos.close()
    assert [Path(name).parent.name for name in names(tmp_path)] == ["step_000001", "step_000004", "step_000005"]
    assert mine.exists()
    assert not (videos.folder / "step_000002").exists()


def test_a_full_disk_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: Path, write: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    videos = shelf(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(module, "write_atomically", refuse)
        videos.keep(1, ended(spec(0), spec(1)), Worker().videos)
        videos.close()
    assert caplog.text.count("videos are left out") == 1
    again = shelf(tmp_path)
    again.keep(2, ended(spec()), Worker().videos)
    again.close()
    assert len(names(tmp_path)) == 1


def test_a_worker_that_is_gone_costs_its_videos_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        def result(self) -> Files:
            raise RuntimeError("a worker is gone")

    videos = shelf(tmp_path)
    videos.keep(1, ended(spec()), lambda reel, specs: [Gone()])
    videos.keep(2, ended(spec()), Worker().videos)
    videos.close()
    assert "a worker is gone" in caplog.text
    assert [Path(name).parent.name for name in names(tmp_path)] == ["step_000002"]


def test_a_worker_that_does_not_answer_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answer = threading.Event()

    class Hanging:
        def result(self) -> Files:
            answer.wait(20)
            return []

    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    videos = shelf(tmp_path)
    videos.keep(1, ended(spec()), lambda reel, specs: [Hanging()])
    videos.close()
    answer.set()
    assert "not finished" in caplog.text


def test_a_folder_outside_the_run_has_a_part_for_each_run(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    videos = Shelf(VideoConfig(save_video=True, video_base_dir=str(tmp_path / "logs")), run, "train")
    (told,) = videos.keep(1, ended(spec()), Worker().videos)
    videos.close()
    assert told.video is not None
    assert (run / told.video).is_file() is False  # the run's folder is not there
    run.mkdir(parents=True)
    assert (run / told.video).is_file()
