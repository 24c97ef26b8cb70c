"""Filmstrips show pictures, not the text below them."""

from pathlib import Path

import pytest

from siirl.observe.report.films import filmstrip
from siirl.observe.video.drawing import frames
from siirl.observe.video.encoding import encode
from tests.observe.video.films import spec, trajectory

INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"


@pytest.mark.parametrize(("size", "views"), [((256, 256), 1), ((128, 128), 2), ((63, 77), 1)])
@pytest.mark.parametrize("info", [True, False])
def test_the_text_of_a_video_is_cut_off(tmp_path: Path, size: tuple[int, int], views: int, info: bool) -> None:
    film = trajectory(spec(instruction=INSTRUCTION), size=size, views=views)
    video = tmp_path / "film.mp4"
    video.write_bytes(encode(frames(film, info), fps=5))
    strip = filmstrip(video, INSTRUCTION)
    assert strip is not None
    height, width = size
    assert strip.aspect == pytest.approx(8 * views * width / height, rel=0.03)


def test_a_picture_is_not_taken_for_text(tmp_path: Path) -> None:
    film = trajectory(spec(instruction=INSTRUCTION), size=(256, 256))
    film.images[:, :, 150:] = 0  # black below, as a band of text is
    film.images[:, :, 200:205, 100:150] = 255
    film.images[:, :, 255] = 255
    video = tmp_path / "film.mp4"
    video.write_bytes(encode(frames(film, info=False), fps=5))
    strip = filmstrip(video, INSTRUCTION)
    assert strip is not None
    assert strip.aspect == pytest.approx(8)
