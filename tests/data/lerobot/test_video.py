"""Frames are found whatever the codec's groups of pictures look like."""

from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest

from siirl.data.lerobot.video import read_frames

FPS, COUNT = 20, 100


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx265", {"x265-params": "keyint=10:min-keyint=10:bframes=4:open-gop=1:log-level=error"}),
        ("libx264", {"x264-params": "keyint=10:bframes=4:open-gop=1"}),
    ],
)
def test_every_frame_of_open_groups_of_pictures_is_found_alone(
    codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "video.mp4"
    with av.open(str(file), "w", format="mp4") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=FPS, options=options))
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(COUNT):
            picture = np.full((64, 64, 3), 2 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    found = [read_frames(file, [number / FPS], FPS, (64, 64)).mean() for number in range(COUNT)]
    np.testing.assert_allclose(found, 2.0 * np.arange(COUNT), atol=4)
    with pytest.raises(ValueError, match=r"video\.mp4 has no frame at 5\.000 s"):
        read_frames(file, [COUNT / FPS], FPS, (64, 64))
