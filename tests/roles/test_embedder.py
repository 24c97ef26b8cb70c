"""The embedder role: every episode from its own frames, in order, in bounded batches."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Trajectory
from siirl.embeddings.pixels import Pixels
from siirl.roles.embedder import BATCH, Embedder, frame_indices


class Recorder:
    """An encoder that shows which frames it got: an episode's embedding is the first pixel of each of its frames."""

    num_frames = 4

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def encode(self, frames: np.ndarray) -> torch.Tensor:
        self.batch_sizes.append(len(frames))
        return torch.as_tensor(frames[:, :, 0, 0, 0]).float()


def trajectory(chunks: int, episode: int = 0) -> Trajectory:
    """C chunks; frame i of the main view shows 10 · episode + i, the wrist view shows 255."""
    spec = EpisodeSpec("libero_spatial", 0, 0, "x", 220, 0, episode, 0, episode)
    summary = EpisodeSummary(spec, False, chunks * 8, chunks, False, 0)
    images = np.full((chunks + 1, 2, 32, 32, 3), 255, np.uint8)
    images[:, 0] = (10 * episode + np.arange(chunks + 1))[:, None, None, None]
    empty = np.zeros((chunks, 56))
    return Trajectory(
        summary,
        images,
        np.zeros((chunks + 1, 8), np.float32),
        empty.astype(np.int16),
        empty.astype(np.float32),
        empty[:, 0],
        np.zeros((chunks, 8), np.float32),
    )


def test_each_episode_is_sampled_over_its_own_length() -> None:
    embeddings = Embedder(Recorder()).embed([trajectory(9, 0), trajectory(3, 1), trajectory(1, 2)])
    np.testing.assert_array_equal(embeddings, [[0, 3, 6, 9], [10, 11, 12, 13], [20, 20, 21, 21]])
    assert embeddings.dtype == np.float32


def test_many_episodes_go_through_in_bounded_batches_and_keep_their_order() -> None:
    encoder = Recorder()
    embeddings = Embedder(encoder).embed([trajectory(3, i % 20) for i in range(2 * BATCH + 3)])
    assert encoder.batch_sizes == [BATCH, BATCH, 3]
    np.testing.assert_array_equal(embeddings[:, 0], [10 * (i % 20) for i in range(2 * BATCH + 3)])


def test_one_batch_at_a_time_whatever_the_number_of_threads() -> None:
    """One thread must not send the encoder to host memory while another computes with it."""

    class Busy(Recorder):
        inside = most = 0

        def encode(self, frames: np.ndarray) -> torch.Tensor:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.02)
            self.inside -= 1
            return super().encode(frames)

    encoder = Busy()
    embedder = Embedder(encoder)
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(embedder.embed, [[trajectory(3, i)] for i in range(6)]))
    assert encoder.most == 1
    np.testing.assert_array_equal(np.concatenate(results)[:, 0], [10 * i for i in range(6)])


def test_with_a_real_encoder() -> None:
    embeddings = Embedder(Pixels(8)).embed([trajectory(12, 0), trajectory(2, 1)])
    assert embeddings.shape == (2, 64)
    assert np.isfinite(embeddings).all()


@given(st.integers(1, 300), st.integers(2, 128))
def test_frame_indices_are_even_and_span_the_episode(available: int, wanted: int) -> None:
    indices = frame_indices(available, wanted)
    assert (indices[0], indices[-1], len(indices)) == (0, available - 1, wanted)
    steps = np.diff(indices)
    assert (steps >= 0).all()
    assert np.ptp(steps) <= 1
