"""The encoder without weights: its distances must follow progress."""

import time

import numpy as np
import pytest
import torch

from siirl.config.schema import EmbodiedConfig
from siirl.embeddings.base import ENCODERS
from siirl.embeddings.pixels import Pixels
from siirl.rewards.srpo import srpo_reward

NUM_FRAMES = 20


def video(reached: float, start: int, seed: int, side: int = 128) -> np.ndarray:
    """A disc travels from the left to the right, until it has made ``reached`` of the way: uint8 [20, side, side, 3]."""
    rng = np.random.default_rng(seed)
    background = np.random.default_rng(0).integers(60, 200, (side, side, 3))
    rows, columns = np.mgrid[:side, :side]
    frames = np.repeat(background[None], NUM_FRAMES, axis=0)
    for i, part in enumerate(np.minimum(np.linspace(0, 1.4, NUM_FRAMES), reached)):
        disc = (rows - start - 20 * part) ** 2 + (columns - side * (0.15 + 0.7 * part)) ** 2 < (side / 12) ** 2
        frames[i][disc] = 250
    return np.clip(frames + rng.normal(0, 2, frames.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def encoder() -> Pixels:
    return Pixels(NUM_FRAMES)


def test_reward_orders_failures_by_how_far_they_got(encoder: Pixels) -> None:
    reached = [0.0, 0.15, 0.3, 0.5, 0.65, 0.8, 0.9]
    successes = [video(1, 40 + i, seed=i) for i in range(4)]
    failures = [video(part, 41, seed=10 + i) for i, part in enumerate(reached)]
    embeddings = encoder.encode(np.stack(successes + failures))
    assert embeddings.shape == (11, 64)
    assert embeddings.dtype == torch.float32
    rewards = srpo_reward(embeddings, [True] * 4 + [False] * 7, [0] * 11)[4:].tolist()
    assert rewards == sorted(rewards)
    assert rewards[-1] > 0.5 > 0.1 > rewards[0]


def test_each_row_is_independent_of_its_batch(encoder: Pixels) -> None:
    videos = np.stack([video(0.2 * i, 40, seed=i) for i in range(5)])
    together = encoder.encode(videos)
    alone = torch.cat([encoder.encode(torch.as_tensor(v[None])) for v in videos])
    assert torch.equal(together, alone)
    assert torch.equal(encoder.encode(videos), together)


def test_a_still_video_embeds_to_zero_and_sizes_may_be_odd(encoder: Pixels) -> None:
    still = np.repeat(video(1, 40, seed=0, side=50)[:1], NUM_FRAMES, axis=0)
    assert (encoder.encode(still[None]) == 0).all()


def test_quick(encoder: Pixels) -> None:
    videos = np.stack([video(1, 40, seed=0)])
    encoder.encode(videos)
    times = []
    for _ in range(20):
        begin = time.thread_time()
        encoder.encode(videos)
        times.append(time.thread_time() - begin)
    assert min(times) < 2e-3


def test_registered_encoder_takes_its_frames_from_the_config() -> None:
    encoder = ENCODERS.get("pixels").load(EmbodiedConfig(embedding_num_frames=12), torch.device("cpu"))
    assert encoder.num_frames == 12
    with pytest.raises(ValueError, match=r"uint8 \[B, 12, H, W, 3\]"):
        encoder.encode(np.zeros((1, 13, 32, 32, 3), np.uint8))
