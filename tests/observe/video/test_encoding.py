"""Frames as a video shows them, and the file."""

import numpy as np
import pytest

from siirl.observe.video.drawing import Caption, frames
from siirl.observe.video.encoding import encode
from tests.observe.video.films import decode, spec, trajectory


def test_a_file_that_browsers_play_has_a_frame_for_each_observation() -> None:
    film = trajectory(spec(), chunks=5)
    decoded, codec, pixels, fps = decode(encode(frames(film, info=False), fps=7))
    assert (codec, pixels, fps) == ("h264", "yuv420p", 7)
    assert len(decoded) == 6
    for frame, image in zip(decoded, film.frames, strict=True):
        assert frame.shape == image.shape
        assert abs(frame.mean() - image.mean()) < 3


def test_an_episode_that_ended_at_its_first_observation_has_one_frame() -> None:
    film = trajectory(spec(), chunks=1)
    film.images, film.executed, film.rewards = film.images[:1], film.executed[:0], np.zeros((0, 0), np.float32)
    assert len(decode(encode(frames(film, info=True), fps=1))[0]) == 1


@pytest.mark.parametrize("info", [False, True])
def test_odd_sizes_are_made_even(info: bool) -> None:
    for frame in frames(trajectory(spec(), size=(63, 77)), info):
        assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0


def test_views_stand_side_by_side() -> None:
    film = trajectory(spec(), views=2)
    film.images[:, 1] = 255
    first = next(iter(frames(film, info=False)))
    assert first.shape == (64, 96, 3)
    assert first[:, :48].max() < 255 == first[:, 48:].min()


def test_text_stands_below_the_picture_and_hides_nothing_of_it() -> None:
    film = trajectory(spec(instruction="pick up the black bowl " * 6), size=(256, 256))
    with_info = next(iter(frames(film, info=True)))
    assert (with_info[:256] == film.frames[0]).all()
    assert with_info.shape[1] == 256
    assert with_info[256:].max() > 200
    margins = np.concatenate([with_info[256:, :3], with_info[256:, -3:]], axis=1)
    assert margins.max() == 0, "the longest line fits"


def test_small_pictures_are_enlarged_so_that_text_fits() -> None:
    frame = next(iter(frames(trajectory(spec(), size=(64, 64)), info=True)))
    assert frame.shape[1] == 256


def test_the_line_tells_step_reward_value_and_outcome() -> None:
    values = np.array([[0.25], [0.5], [0.75], [0.0]], np.float32)
    caption = Caption(trajectory(spec(), success=True, values=values), 256)
    assert [caption._line(i).split("   ") for i in range(4)] == [
        ["step 0/220", "reward 0.00", "value 0.25"],
        ["step 8/220", "reward 0.00", "value 0.50"],
        ["step 16/220", "reward 0.00", "value 0.75"],
        ["step 24/220", "reward 1.00", "success"],
    ]
    without = Caption(trajectory(spec()), 256)
    assert without._line(1) == "step 8/220   reward 0.00"
    assert without._line(3).endswith("failure")
    assert Caption(trajectory(spec(), drop_reason="nan_action"), 256)._line(3).endswith("nan_action")
