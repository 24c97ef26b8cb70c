"""Made-up demonstrations that a policy can learn."""

from pathlib import Path

import numpy as np

from siirl.client import sft as command
from siirl.data.lerobot import Columns, Demonstrations, Episode
from siirl.envs.libero import to_libero_gripper
from tests.data.lerobot.folders import Recorded
from tests.policies.tiny import INSTRUCTIONS

STEPS = 24
START = Path(__file__).parents[2] / "examples" / "start_policy"
"""Folder of the small policy's recipe."""


def make_demo(trial: int, instruction: str = INSTRUCTIONS[0]) -> Recorded:
    """A demonstration whose actions can be read off its states and images; grippers as LIBERO's."""
    rng = np.random.default_rng(trial)
    phase = np.linspace(0, 3, STEPS)[:, None] + trial + np.arange(7) / 3
    actions = np.sin(phase).astype(np.float32)
    actions[:, 6] = np.arange(STEPS) < STEPS // 2
    states = np.concatenate([actions, actions[:, :1]], axis=1)
    images = rng.integers(0, 256, (STEPS, 48, 48, 3), dtype=np.uint8)
    labels = {"task_id": 0, "trial_id": trial, "noise": 0.0}
    return Episode(instruction, states, to_libero_gripper(actions), labels), images


def load(root: Path) -> Demonstrations:
    return command.load_demos(root, Columns(), "libero", {"action_token_len": 7, "use_proprio": True, "proprio_dim": 8})
