"""The embedder role: one video embedding per episode."""

import threading
from collections.abc import Sequence

import numpy as np

from siirl.data.trajectory import Trajectory
from siirl.embeddings.base import VideoEncoder

BATCH = 16
"""Episodes whose frames are gathered at once: 16 videos of 64 frames of 256² are 200 MB."""


class Embedder:
    """Runs a video encoder over trajectories. Each episode is embedded from its own frames alone.

    Groups may be embedded from several threads, but one batch at a time: an encoder that rests in host memory must not be
    moved there while another thread computes with it, and two batches would take twice the memory and gain no time.
    """

    def __init__(self, encoder: VideoEncoder) -> None:
        self.encoder = encoder
        self._turn = threading.Lock()

    def embed(self, trajectories: Sequence[Trajectory]) -> np.ndarray:
        """Embeddings of n ≥ 1 episodes, float32 [n, E], in order."""
        batches = [trajectories[i : i + BATCH] for i in range(0, len(trajectories), BATCH)]
        return np.concatenate([self._embed_batch(batch) for batch in batches])

    def _embed_batch(self, trajectories: Sequence[Trajectory]) -> np.ndarray:
        with self._turn:
            videos = [t.frames[frame_indices(len(t.frames), self.encoder.num_frames)] for t in trajectories]
            return self.encoder.encode(np.stack(videos)).numpy()


def frame_indices(available: int, wanted: int) -> np.ndarray:
    """``wanted`` indices evenly spaced over ``available`` frames, from the first to the last, rounded: int [wanted].

    Frames repeat when fewer are available than wanted.
    """
    return np.linspace(0, available - 1, wanted).round().astype(np.int64)
