"""Where videos go, by what the config says."""

from pathlib import Path

import pytest

from siirl.config.schema import VideoConfig
from siirl.config.videos import video_folder


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        (None, "/runs/one/videos/val"),
        ("/runs/one/video", "/runs/one/video"),
        ("/runs/two/../one/video", "/runs/one/video"),
    ],
)
def test_a_folder_of_the_run_is_its_alone(given: str | None, folder: str) -> None:
    assert video_folder(VideoConfig(video_base_dir=given), Path("/runs/one"), "val") == Path(folder)


def test_a_folder_outside_the_run_has_a_part_for_each_run_whatever_these_are_called() -> None:
    outside = VideoConfig(video_base_dir="/logs")
    parts = [video_folder(outside, Path(run), "val") for run in ("/runs/one", "/other/one", "/runs/one")]
    assert parts[0] == parts[2] != parts[1]
    for part in parts:
        assert (part.parent.parent, part.parent.name[:4], part.name) == (Path("/logs"), "one-", "val")
