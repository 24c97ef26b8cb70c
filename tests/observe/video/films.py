"""Episodes with pictures, and a look into the files made of them."""

import io
from collections.abc import Sequence

import av
import numpy as np

from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Trajectory


def spec(task: int = 0, group: int = 0, index: int = 0, instruction: str = "pick it up") -> EpisodeSpec:
    return EpisodeSpec("libero_spatial", task, group, instruction, 220, group, index, 0, 7)


def trajectory(
    episode: EpisodeSpec,
    success: bool = False,
    chunks: int = 3,
    size: tuple[int, int] = (64, 48),
    views: int = 1,
    values: np.ndarray | None = None,
    drop_reason: str | None = None,
) -> Trajectory:
    """An episode of chunks of 8 steps, whose frames grow brighter; a success is rewarded at its last step."""
    executed = np.full(chunks, 8, np.int16)
    rewards = np.zeros((chunks, 8), np.float32)
    rewards[-1, -1] = success
    images = np.zeros((chunks + 1, views, *size, 3), np.uint8)
    images += np.linspace(20, 220, chunks + 1).astype(np.uint8)[:, None, None, None, None]
    summary = EpisodeSummary(episode, success, int(executed.sum()), chunks, not success, 0, drop_reason)
    empty = np.zeros((chunks, 0))
    return Trajectory(summary, images, np.zeros((chunks + 1, 8)), empty, empty, executed, rewards, values)


def decode(file: bytes) -> tuple[list[np.ndarray], str, str, float]:
    """The frames, the codec, the pixel format and the frames per second of an MP4 file."""
    with av.open(io.BytesIO(file), format="mp4") as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.codec_context.name, str(stream.pix_fmt), float(stream.average_rate or 0)


def outcomes(summaries: Sequence[EpisodeSummary]) -> list[tuple[int, int, int, bool]]:
    """Task, group, index and success of each."""
    return [(s.spec.task_id, s.spec.group_id, s.spec.index, s.success) for s in summaries]
