"""Frames in MP4 files, through PyAV.

Ours are H.264 without loss, in RGB (https://trac.ffmpeg.org/wiki/Encode/H.264): what a policy learns from is bit for bit
what the simulator rendered, in under half the space of PNG. Any codec that FFmpeg decodes is read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

CODEC = "libx264rgb"
OPTIONS = {"qp": "0", "preset": "ultrafast", "g": "10", "bf": "0"}  # a key frame every 10, for random access
TOLERANCE = 0.1  # of the time between frames


class VideoWriter:
    """Appends frames to a new MP4 file, which is complete after `close`."""

    def __init__(self, file: Path, fps: int, height: int, width: int):
        self._container = av.open(str(file), "w", format="mp4")
        self._stream = cast(av.VideoStream, self._container.add_stream(CODEC, rate=fps, options=OPTIONS))
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "rgb24"

    def add(self, frames: np.ndarray) -> None:
        """Append ``frames`` uint8 [F, H, W, 3]."""
        for frame in frames:
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def close(self) -> None:
        """Write what is pending, and the file's index."""
        self._container.mux(self._stream.encode())
        self._container.close()


def describe(fps: int, height: int, width: int) -> dict[str, Any]:
    """The ``info`` of a video feature of ours in ``meta/info.json``."""
    size = {"video.height": height, "video.width": width, "video.channels": 3, "video.fps": fps}
    return {**size, "video.codec": "h264", "video.pix_fmt": "gbrp", "video.is_depth_map": False, "has_audio": False}


@contextmanager
def _open(file: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream. Raises ValueError for what FFmpeg cannot read, here or inside."""
    if not file.is_file():
        raise ValueError(f"{file} is missing; download or write the dataset again")
    try:
        # naming the format keeps FFmpeg from probing for playlists, which could name other files
        with av.open(str(file), format="mp4") as container:
            if not container.streams.video:
                raise ValueError(f"{file} has no video stream; download or write the dataset again")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise ValueError(f"{file} cannot be decoded ({error}); it is cut off or damaged: get it again") from error


def check(file: Path, size: tuple[int, int], num_frames: int) -> None:
    """Compare a file's header with what the dataset says of it.

    Raises:
        ValueError: another size (height, width) or number of frames.
    """
    with _open(file) as (_, stream):
        if (stream.height, stream.width) != size:
            raise ValueError(
                f"{file} has frames of {stream.height}×{stream.width}; meta/info.json says {size[0]}×{size[1]}"
            )
        if stream.frames not in (0, num_frames):  # 0: the header does not tell
            raise ValueError(
                f"{file} has {stream.frames} frames, but its episodes have {num_frames} rows; get it again"
            )


def read_frames(file: Path, timestamps: Sequence[float], fps: float, size: tuple[int, int]) -> np.ndarray:
    """The frames shown at ``timestamps`` (seconds in the file, ascending), uint8 [F, height, width, 3].

    Raises:
        ValueError: the file is missing or damaged, a frame is missing, or has another size.
    """
    frames = np.empty((len(timestamps), *size, 3), np.uint8)
    found = 0
    with _open(file) as (container, stream):
        stream.codec_context.thread_count = 1  # small frames: threads cost more than they give
        for frame in _decode_from(container, stream, timestamps[0], fps):
            late = frame.time - timestamps[found]
            if late < -TOLERANCE / fps:
                continue
            if late > TOLERANCE / fps:
                break
            if (frame.height, frame.width) != size:
                raise ValueError(f"{file} changes to {frame.height}×{frame.width} at {frame.time:.2f} s; get it again")
            frames[found] = frame.to_ndarray(format="rgb24")
            found += 1
            if found == len(timestamps):
                return frames
    raise ValueError(f"{file} has no frame at {timestamps[found]:.3f} s, where an episode has a row; get it again")


def _decode_from(container: Any, stream: Any, timestamp: float, fps: float) -> Iterator[av.VideoFrame]:
    """The frames of ``stream`` from ``timestamp`` (seconds) or earlier on.

    Behind a key frame of an open group of pictures may come frames that are shown before it and need the previous group:
    decoding that starts at this key frame skips them. So the start is moved back while the first frame comes too late.
    """
    back = 1 / fps
    while True:
        start = max(0.0, timestamp - back)
        container.seek(int(start / stream.time_base), stream=stream)
        frames = container.decode(stream)
        first = next(frames, None)
        if start == 0 or (first is not None and first.time <= timestamp + TOLERANCE / fps):
            return chain(() if first is None else (first,), frames)
        back *= 4
