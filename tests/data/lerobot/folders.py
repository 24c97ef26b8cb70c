"""Datasets for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from siirl.data.lerobot import DatasetWriter, Episode, ShardWriter

FPS = 20
Recorded = tuple[Episode, np.ndarray]


def episode(trial: int, length: int = 7, size: int = 32, instruction: str = "pick up the black bowl") -> Recorded:
    """An episode of noise, with its frames uint8 [L, size, size, 3]."""
    rng = np.random.default_rng(trial)
    states, actions = rng.normal(size=(length, 8)).astype(np.float32), rng.normal(size=(length, 7)).astype(np.float32)
    actions[:, 6] = np.where(np.arange(length) < length // 2, -1, 1)
    labels = {"task_id": 0, "trial_id": trial, "noise": 0.1}
    frames = rng.integers(0, 256, (length, size, size, 3), dtype=np.uint8)
    return Episode(instruction, states, actions, labels), frames


def write(root: Path, shards: Sequence[Sequence[Recorded]]) -> DatasetWriter:
    """A dataset in ``root``, or more episodes for the one there; one data and one video file per shard."""
    size = shards[0][0][1].shape[1:3]
    writer = DatasetWriter(root, FPS, size, 8, 7)
    for shard in shards:
        root.mkdir(parents=True, exist_ok=True)
        part = ShardWriter(root / ".partial.mp4", FPS, size)
        for recorded in shard:
            part.add(*recorded)
        writer.append(part.close())
    return writer
