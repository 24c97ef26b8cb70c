"""Videos made beside a rollout."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from siirl.data.trajectory import CANCELLED
from siirl.observe.video import recorder as module
from siirl.observe.video.choice import Reel
from siirl.observe.video.recorder import Recorder
from tests.observe.video.films import decode, spec, trajectory

REEL = Reel("train", 3, info=False, fps=5, most=2)


@pytest.fixture
def recorder():
    made = Recorder()
    yield made
    made.close()


def test_the_files_of_the_chosen_ones_are_handed_out_once(recorder: Recorder) -> None:
    episodes = [spec(index=i) for i in range(4)]
    for i, episode in enumerate(episodes):
        recorder.offer(REEL, trajectory(episode, success=i == 3, chunks=2 + i))
    files = dict(recorder.take(REEL, [episodes[0], episodes[3], spec(index=9)]))
    assert {episode: len(decode(file)[0]) for episode, file in files.items()} == {episodes[0]: 3, episodes[3]: 6}
    assert recorder.take(REEL, episodes) == []


def test_who_comes_later_but_first_in_order_takes_the_place(recorder: Recorder) -> None:
    for index in (3, 2, 1):
        recorder.offer(REEL, trajectory(spec(index=index)))
    assert {episode.index for episode, _ in recorder.take(REEL, [spec(index=i) for i in range(4)])} == {1, 2}


def test_who_is_waited_for_and_loses_its_place_gets_none(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is busy with another episode while the one that is waited for is displaced, or its reel forgotten."""
    busy, go = threading.Event(), threading.Event()

    def slow(*_: object) -> bytes:
        busy.set()
        assert go.wait(30)
        return b"film"

    monkeypatch.setattr(module, "encode", slow)
    recorder.offer(Reel("val", 0, False, 5, 1), trajectory(spec()))
    assert busy.wait(30)
    single = [Reel("train", step, False, 5, 1) for step in range(4)]
    with ThreadPoolExecutor(2) as pool:
        for reel in single[:2]:
            recorder.offer(reel, trajectory(spec(index=3)))
        waits = [pool.submit(recorder.take, reel, [spec(index=3)]) for reel in single[:2]]
        assert wait(waits, 0.2).done == set()
        recorder.offer(single[1], trajectory(spec(index=1)))  # displaces
        recorder.offer(single[2], trajectory(spec()))  # forgets the reel of step 0
        assert [future.result(30) for future in waits] == [[], []]
    go.set()


def test_cancelled_episodes_get_none(recorder: Recorder) -> None:
    recorder.offer(REEL, trajectory(spec(), drop_reason=CANCELLED))
    assert recorder.take(REEL, [spec()]) == []


def test_old_reels_of_a_split_are_forgotten(recorder: Recorder) -> None:
    reels = [Reel("train", step, False, 5, 2) for step in range(3)]
    other = Reel("val", 0, False, 5, 2)
    for reel in (other, *reels):
        recorder.offer(reel, trajectory(spec()))
    assert [len(recorder.take(reel, [spec()])) for reel in (other, *reels)] == [1, 0, 1, 1]


def test_an_encoder_that_lags_costs_videos_and_no_time(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(module, "encode", lambda frames, fps: gate.wait(20) and b"done")
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    for task in range(5):
        recorder.offer(REEL, trajectory(spec(task)))  # would hang here
    gate.set()
    assert len(recorder.take(REEL, [spec(task) for task in range(5)])) == 3
    assert "1 episodes got no video" in caplog.text


def test_an_episode_that_cannot_be_drawn_is_told_and_left_out(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = trajectory(spec(0)), trajectory(spec(1))
    broken.images = broken.images[:0]
    recorder.offer(REEL, broken)
    recorder.offer(REEL, whole)
    assert [episode.task_id for episode, _ in recorder.take(REEL, [spec(0), spec(1)])] == [1]
    assert "no video of libero_spatial/0/0" in caplog.text
