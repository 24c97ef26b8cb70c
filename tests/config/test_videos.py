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
        ("/logs", "/logs/one/val"),
    ],
)
def test_a_folder_outside_the_run_has_a_part_for_each_run(given: str | None, folder: str) -> None:
    assert video_folder(VideoConfig(video_base_dir=given), Path("/runs/one"), "val") == Path(folder)
