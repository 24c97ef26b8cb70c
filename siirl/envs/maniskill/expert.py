"""A scripted expert for PickCube, with privileged access to the scene.

It yields one action after another and leaves executing them to the caller, who may add noise or stop at success::

    for action in PickCube(simulator.env).actions():
        _, success, _ = simulator.step(to_maniskill(action)[None])

The phases: above the cube, down, close, to the goal. Positions are in metres in the world's frame (z up), actions in the
policy's convention (gripper: 1 open, 0 closed).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

POSITION_UNIT = 0.1
"""Metres that an action of 1 moves the controller's goal."""
SPEED = 0.5
"""Of the fastest action, along each axis. At full speed the hand is at the cube after three actions, before a policy that acts in
chunks has looked a second time."""
OPEN, CLOSED = 1.0, 0.0
ABOVE = np.array([0.0, 0.0, 0.08])
CLOSING_STEPS = 4

Actions = Iterator[np.ndarray]


class PickCube:
    """Grasps the cube and carries it to the goal. A grasp that fails, as it may under noise, is tried again.

    Args:
        env: ManiSkill's environment of one scene, reset.
    """

    def __init__(self, env: Any) -> None:
        self._env = env

    def actions(self) -> Actions:
        """Actions float32 [7], without end: the caller knows when the cube is where it should be, and for how long to try."""
        while True:
            yield from self._move(lambda: self._cube() + ABOVE, tolerance=0.02)
            yield from self._move(self._cube, tolerance=0.01)
            for _ in range(CLOSING_STEPS):
                yield self._towards(self._cube(), CLOSED)
            while self._holds():
                yield self._towards(self._hand() + self._goal() - self._cube(), CLOSED)

    def _move(self, place: Callable[[], np.ndarray], tolerance: float) -> Actions:
        """Open-handed steps until the hand is within ``tolerance`` (m) of a place."""
        while np.linalg.norm(place() - self._hand()) >= tolerance:
            yield self._towards(place(), OPEN)

    def _towards(self, place: np.ndarray, gripper: float) -> np.ndarray:
        """One action: to a place, as far as a step goes."""
        action = np.zeros(7, np.float32)
        action[:3] = np.clip((place - self._hand()) / POSITION_UNIT, -SPEED, SPEED)
        action[6] = gripper
        return action

    def _hand(self) -> np.ndarray:
        return self._env.agent.tcp.pose.p[0].numpy()

    def _cube(self) -> np.ndarray:
        return self._env.cube.pose.p[0].numpy()

    def _goal(self) -> np.ndarray:
        return self._env.goal_site.pose.p[0].numpy()

    def _holds(self) -> bool:
        return bool(self._env.agent.is_grasping(self._env.cube)[0])
