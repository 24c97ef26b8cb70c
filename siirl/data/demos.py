"""Demonstrations on disk: one ``.npz`` per episode (no pickles), written by ``siirl.client.collect_demos``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Demo:
    """A successful episode of an expert, rendered at some of its L steps.

    Attributes:
        suite, task_id, trial_id, instruction: which task and initial state.
        frame_steps: the F steps at which an image was rendered, int32 [F].
        images: main camera, uint8 [F, H, W, 3].
        states: proprioception at *every* step, float32 [L, D].
        actions: what the expert wanted at every step, before noise was added, float32 [L, 7], un-normalised (policy
            convention).
    """

    suite: str
    task_id: int
    trial_id: int
    instruction: str
    frame_steps: np.ndarray
    images: np.ndarray
    states: np.ndarray
    actions: np.ndarray

    def save(self, path: Path) -> None:
        """Write to ``path`` (``.npz``, compressed)."""
        np.savez_compressed(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> "Demo":
        """Read a file written by `save`."""
        with np.load(path, allow_pickle=False) as arrays:
            scalars = {"suite": str, "task_id": int, "trial_id": int, "instruction": str}
            return cls(**{k: scalars[k](arrays[k]) if k in scalars else arrays[k] for k in arrays.files})
