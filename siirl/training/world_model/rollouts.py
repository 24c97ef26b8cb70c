"""Recorded rollouts as a world model's training sees them: frames in a file, actions and labels in memory."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siirl.data.lerobot import Demonstrations

DECODED_AT_ONCE = 64
"""Frames of an episode that are decoded at a time."""


@dataclass(frozen=True)
class Rollout:
    """An episode of L actions.

    Attributes:
        instruction: the language goal.
        trial: the initial state.
        first: number of its first frame among all frames; it has L + 1.
        actions: executed, as the simulator takes them, float32 [L, 7]; the i-th leads from frame i to frame i + 1.
        success: whether the last frame shows success; no other one does.
    """

    instruction: str
    trial: int
    first: int
    actions: np.ndarray
    success: bool

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.actions) + 1


@dataclass(frozen=True)
class Rollouts:
    """N frames of several episodes, one after another.

    Attributes:
        frames: uint8 [N, H, W, 3], mapped from a file.
        episodes: what they belong to.
    """

    frames: np.ndarray
    episodes: list[Rollout]

    @property
    def size(self) -> int:
        """Side of the frames, pixels."""
        return self.frames.shape[1]

    def rows(self, episodes: list[Rollout]) -> Tensor:
        """Numbers of all frames of some episodes, int64."""
        return torch.cat([torch.arange(one.first, one.first + one.length) for one in episodes])

    def pixels(self, rows: Tensor) -> Tensor:
        """Frames as networks take them, float32 [B, 3, H, W] in [−1, 1]."""
        return torch.from_numpy(self.frames[rows.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1

    def fingerprint(self) -> str:
        """Of what was done and how it ended, and of every frame's mean; equal for equal rollouts in equal order."""
        digest = hashlib.sha256()
        for one in self.episodes:
            digest.update(repr((one.instruction, one.trial, one.first, one.success)).encode())
            digest.update(one.actions.tobytes())
        for rows in np.array_split(np.arange(len(self.frames)), -(-len(self.frames) // DECODED_AT_ONCE)):
            digest.update(self.frames[rows].mean((1, 2, 3)).tobytes())
        return digest.hexdigest()[:16]

    def split(self, holdout: float) -> tuple[list[Rollout], list[Rollout]]:
        """Those that train, and those of the last ``holdout`` (a fraction, at least one) of the trials, which measure.

        Raises:
            ValueError: fewer than two trials.
        """
        trials = sorted({one.trial for one in self.episodes})
        if len(trials) < 2:
            raise ValueError(f"rollouts of {len(trials)} trial were given; at least 2 are needed, to hold one out")
        held = set(trials[-max(1, round(holdout * len(trials))) :])
        train = [one for one in self.episodes if one.trial not in held]
        return train, [one for one in self.episodes if one.trial in held]


def read_rollouts(datasets: Sequence[Demonstrations]) -> Rollouts:
    """All of some datasets of ``collect-demos --rollouts``, where an episode's last row holds the last frame, and no action.

    Frames go to an unnamed temporary file in ``$TMPDIR``, of which the operating system keeps in memory what there is room for.

    Raises:
        ValueError: a dataset is one of demonstrations, frames are no squares of one size, or it cannot be read.
    """
    for data in datasets:
        _check(data, datasets[0].info.image_size)
    height, width = datasets[0].info.image_size
    episodes, first = [], 0
    with tempfile.TemporaryFile() as file:
        for source, demo in [(data, demo) for data in datasets for demo in data.demos]:
            steps = list(range(len(demo.actions)))
            for start in range(0, len(steps), DECODED_AT_ONCE):
                file.write(source.frames(demo, steps[start : start + DECODED_AT_ONCE]).tobytes())
            episodes.append(Rollout(demo.instruction, demo.trial, first, demo.actions[:-1], bool(demo.success)))
            first += len(steps)
        file.flush()
        frames = np.memmap(file, np.uint8, "c", shape=(first, height, width, 3))
    return Rollouts(frames, episodes)


def _check(data: Demonstrations, size: tuple[int, int]) -> None:
    """Raises ValueError for a dataset that no world model can learn from, or not together with frames of ``size``."""
    height, width = data.info.image_size
    if height != width:
        raise ValueError(f"{data.root} has frames of {height}×{width}; a world model imagines squares")
    if (height, width) != size:
        raise ValueError(
            f"{data.root} has frames of {height}×{width}, others of {size[0]}×{size[1]}; collect all alike"
        )
    if any(demo.success is None for demo in data.demos):
        raise ValueError(
            f"{data.root} holds demonstrations, which lack the last frame and what was really executed; collect rollouts: "
            "siirl collect-demos --rollouts"
        )


def action_statistics(episodes: list[Rollout]) -> dict[str, object]:
    """``dataset_statistics.json`` over all executed actions. A number that hardly varies gets quantiles a thousandth apart."""
    actions = np.concatenate([one.actions for one in episodes])
    low, high = np.quantile(actions, 0.01, axis=0), np.quantile(actions, 0.99, axis=0)
    return {"action": {"q01": low.tolist(), "q99": np.maximum(high, low + 1e-3).tolist()}}
