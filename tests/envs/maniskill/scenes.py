"""Scenes without physics that step together, as a GPU's would: a counter each, whose picture shows it."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class CountingScenes:
    """Scene s succeeds when its counter, which grows by the action's first number, reaches ``goals[s]``. A reset sets the counter
    to 0 and the goal to the trial.

    Attributes:
        calls: what was asked for, in order.
    """

    goals: list[float]
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = len(self.goals)
        self.counters = np.zeros(self.slots)

    def reset(self, slot: int, task_id: int, trial_id: int) -> None:
        self.calls.append(f"reset {slot}")
        self.counters[slot], self.goals[slot] = 0, trial_id

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.calls.append("step")
        self.counters += actions[:, 0]
        over = self.counters >= np.array(self.goals)
        return self.counters.astype(np.float32), over, over

    def states(self) -> np.ndarray:
        return np.repeat(self.counters[:, None], 8, axis=1).astype(np.float32)

    def render(self) -> list[np.ndarray]:
        self.calls.append("render")
        return [np.broadcast_to(self.counters[:, None, None, None], (self.slots, 4, 4, 3)).astype(np.uint8)]

    def close(self) -> None:
        self.calls.append("close")
