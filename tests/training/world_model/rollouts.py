"""Rollouts of a world that a network of a few thousand weights learns in seconds: a square in a room that actions light up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from siirl.data.lerobot import DatasetWriter, Episode, ShardWriter
from siirl.data.lerobot.writer import LABELS, OUTCOME

SIZE, GOAL = 32, 22
INSTRUCTION = "turn on the light"


def picture(place: float) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3]; the brighter the further ``place`` is on its way to `GOAL`."""
    frame = np.full((SIZE, SIZE, 3), 10 + round(8 * place), np.uint8)
    frame[12:20, 12:20] += np.array([60, 0, 0], np.uint8)
    return frame


def rollout(trial: int, speed: float, longest: int = 24) -> tuple[Episode, np.ndarray]:
    """An episode that ends when the room is bright, or after ``longest`` actions."""
    rng = np.random.default_rng(trial)
    place, frames, actions = float(trial % 6), [], []
    frames.append(picture(place))
    while place < GOAL and len(actions) < longest:
        action = np.zeros(7, np.float32)
        action[0] = speed + rng.uniform(-0.3, 0.3)
        action[6] = rng.choice([-1, 1])
        place = min(max(place + 2 * float(action[0]), 0), GOAL)
        actions.append(action)
        frames.append(picture(place))
    labels = {"task_id": 0, "trial_id": trial, "noise": 0.0, "success": place >= GOAL}
    states = np.zeros((len(frames), 8), np.float32)
    return Episode(INSTRUCTION, states, np.stack([*actions, np.zeros(7, np.float32)]), labels), np.stack(frames)


def write_rollouts(folder: Path, trials: int = 10, speeds: Sequence[float] = (0.8, 0.8, 0.1)) -> None:
    """A dataset as ``siirl collect-demos --rollouts`` writes it, with each speed in turn; the slow rollouts fail."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = DatasetWriter(folder, 20, (SIZE, SIZE), 8, 7, labels=LABELS | OUTCOME)
    shard = ShardWriter(folder / ".shard.mp4", 20, (SIZE, SIZE))
    for trial in range(trials):
        episode, frames = rollout(trial, speeds[trial % len(speeds)])
        shard.add(episode, frames)
    dataset.append(shard.close())
