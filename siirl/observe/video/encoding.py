"""MP4 files that play in a browser: H.264 in yuv420p (https://developer.mozilla.org/docs/Web/Media/Guides/Formats)."""

import io
from collections.abc import Iterable
from typing import cast

import av
import numpy as np

CODEC, PIXELS = "libx264", "yuv420p"
OPTIONS = {"preset": "veryfast", "crf": "23"}


def encode(frames: Iterable[np.ndarray], fps: int) -> bytes:
    """The file of at least one frame, uint8 [H, W, 3] each with even H and W, ``fps`` shown a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = cast(av.VideoStream, container.add_stream(CODEC, rate=fps, options=OPTIONS))
        stream.pix_fmt = PIXELS
        stream.codec_context.thread_count = 1  # the other cores are the simulators'
        index = -1
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        assert index >= 0, "a video has a frame"
        container.mux(stream.encode())
    return file.getvalue()
