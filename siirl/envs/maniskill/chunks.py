"""Chunks of actions for scenes that step together: which of them still run, what counts, and when to look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Scenes(Protocol):
    """What steps together; `siirl.envs.maniskill.simulator.Simulator` is it."""

    slots: int

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def states(self) -> np.ndarray: ...
    def render(self) -> list[np.ndarray]: ...


@dataclass
class Look:
    """What S slots look like: pictures uint8 [S, H, W, 3] per camera, states float32 [S, 8]."""

    pictures: list[np.ndarray]
    states: np.ndarray


@dataclass
class Played:
    """What happened to S slots in a chunk of N actions.

    Attributes:
        rewards: float32 [S, N]; 0 where nothing was executed.
        success, terminated: bool [S].
        executed: int [S].
        look: after each slot's last executed action.
    """

    rewards: np.ndarray
    success: np.ndarray
    terminated: np.ndarray
    executed: np.ndarray
    look: Look


def look(scenes: Scenes, slots: Sequence[int]) -> Look:
    """Render once; the rows are those of ``slots``."""
    rows = list(slots)
    return Look([picture[rows] for picture in scenes.render()], scenes.states()[rows])


def play(scenes: Scenes, slots: Sequence[int], actions: np.ndarray, steps_left: np.ndarray) -> Played:
    """Execute a chunk in ``slots``, each until it ends or has no steps left, and all until the last of them has.

    A slot that ended moves on in time with the others, under actions of zero that count for nothing; it is looked at when it
    ends. Slots that are not named get such actions throughout. Rendering happens after the last step, and after a step that
    ended a slot before.

    Args:
        scenes: the scenes of all slots.
        slots: S of them.
        actions: float32 [S, N, D], in the simulator's convention.
        steps_left: int [S], steps that each may still take, at least 1.
    """
    rows, (count, length, width) = list(slots), actions.shape
    rewards = np.zeros((count, length), np.float32)
    success, terminated, alive = np.zeros(count, bool), np.zeros(count, bool), np.ones(count, bool)
    executed = np.zeros(count, np.int64)
    seen: Look | None = None
    for index in range(length):
        moves = np.zeros((scenes.slots, width), np.float32)
        moves[rows] = np.where(alive[:, None], actions[:, index], 0)
        reward, succeeded, over = (values[rows] for values in scenes.step(moves))
        rewards[alive, index] = reward[alive]
        executed += alive
        success |= alive & succeeded
        terminated |= alive & over
        ended = alive & (over | (executed == steps_left))
        alive &= ~ended
        last = index == length - 1 or not alive.any()
        if last or ended.any():
            seen = _update(seen, look(scenes, rows), ended | alive)
        if last:
            break
    assert seen is not None, "a chunk has at least one action"
    return Played(rewards, success, terminated, executed, seen)


def _update(old: Look | None, new: Look, which: np.ndarray) -> Look:
    """``new`` for the slots of ``which``, the old look for those that ended before."""
    if old is None or which.all():
        return new
    for before, after in zip([*old.pictures, old.states], [*new.pictures, new.states], strict=True):
        before[which] = after[which]
    return old
