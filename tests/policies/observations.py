"""Observations for tests of policies."""

import numpy as np

from siirl.envs.base import EnvObs
from siirl.policies.base import PolicyInputs
from tests.policies.tiny import INSTRUCTIONS


def observe(rows: int, *, wrist: bool = False) -> EnvObs:
    """Random observations; neighbouring rows have instructions of different length."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2, rows, 48, 48, 3), dtype=np.uint8)
    states = rng.normal(size=(rows, 8)).astype(np.float32)
    tasks = [INSTRUCTIONS[i % 2] for i in range(rows)]
    return EnvObs(images[0], states, tasks, wrist_images=images[1] if wrist else None)


def row_of(obs: EnvObs, row: int) -> EnvObs:
    """One observation of several, which is then not padded."""
    part = slice(row, row + 1)
    wrist = None if obs.wrist_images is None else obs.wrist_images[part]
    return EnvObs(obs.main_images[part], obs.states[part], obs.task_descriptions[part], wrist_images=wrist)


def select(inputs: PolicyInputs, rows: list[int]) -> PolicyInputs:
    """Rows of a batch, as padded as they were in it."""
    return {name: value[rows] for name, value in inputs.items()}
