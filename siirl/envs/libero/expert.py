"""A scripted expert for LIBERO's pick-and-place tasks (libero_spatial, libero_object), with privileged access to the scene.

It yields one action after another and leaves executing them to the caller, who may add noise or stop at success::

    for action in PickAndPlace(simulator).actions():
        if simulator.step(to_libero_gripper(action)):
            break

The phases: approach above the grasp, descend, close, lift, carry over the target, lower, release, retreat. All positions are in
metres in the world's frame (z up), angles in radians, actions in the policy's convention (gripper: 1 open, 0 closed).
"""

import math
from collections.abc import Iterator

import numpy as np

from siirl.envs.libero.grasps import Grasp, Scene, rank_grasps, yaw_error
from siirl.envs.libero.simulator import Simulator

POSITION_UNIT = 0.05
"""Metres that an action of 1 moves the controller's goal."""
ROTATION_UNIT = 0.5
"""Radians that an action of 1 turns the controller's goal."""
OPEN, CLOSED = 1.0, 0.0
DOWN = np.array([0.0, 0.0, -1.0])

Actions = Iterator[np.ndarray]


class _NoProgress:
    """Notices when a distance has not shrunk by 1.5 mm for some steps: the arm rests on something."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best = math.inf
        self._stalled = 0

    def __call__(self, distance: float) -> bool:
        if distance < self._best - 0.0015:
            self._best, self._stalled = distance, 0
        else:
            self._stalled += 1
        return self._stalled >= self._patience


class PickAndPlace:
    """Picks the object up that the task's goal names and puts it where the goal says.

    Args:
        simulator: reset to the initial state.
        choice: which grasp to use, 0 for the one ranked best; a retry may take the next.

    Raises:
        ValueError: the task's first goal is not to put one object on or in another.
    """

    def __init__(self, simulator: Simulator, choice: int = 0) -> None:
        goal = simulator.domain.parsed_problem["goal_state"][0]
        if len(goal) != 3 or goal[0].lower() not in ("on", "in"):
            raise ValueError(
                f"the scripted expert puts objects on or in others; {simulator.task.instruction!r} wants {goal}"
            )
        self._scene = Scene(simulator.domain)
        self._inside = goal[0].lower() == "in"
        self._object = goal[1]
        self._target = goal[2].removesuffix("_contain_region")
        if self._target not in simulator.domain.obj_body_id:
            raise ValueError(f"the scripted expert cannot place onto {goal[2]!r}: it is no object of the scene")
        self._choice = choice
        self._gripper = OPEN
        self._yaw = 0.0
        self._integral = np.zeros(3)

    def actions(self) -> Actions:
        """Actions float32 [7] until the object should be in place, or until the grasp has failed."""
        grasps = rank_grasps(self._scene, self._object)
        if self._choice >= len(grasps):
            return
        grasp = grasps[self._choice]
        self._yaw = grasp.yaw
        resting = self._scene.bottom(self._object)
        yield from self._grasp(grasp)
        height = self._carrying_height(grasp, resting)
        yield from self._move(np.array([*self._scene.hand()[:2], height]), 40, tolerance=0.015, patience=8)
        if self._scene.bottom(self._object) - resting < 0.02:
            return  # it slipped, or was never held
        yield from self._carry(height)
        yield from self._lower()
        yield from self._release()

    def _grasp(self, grasp: Grasp) -> Actions:
        at = np.array([*grasp.xy, grasp.z])
        above = np.array([*grasp.xy, max(grasp.z + 0.10, min(self._scene.hand()[2], grasp.z + 0.16))])
        yield from self._move(above, 50, tolerance=0.012, yaw_tolerance=0.1, patience=10)
        yield from self._move(at, 35, tolerance=0.006, patience=8, speed=0.8)
        self._gripper = CLOSED
        for _ in range(9):
            yield self._towards(at)

    def _carrying_height(self, grasp: Grasp, resting: float) -> float:
        """Height of the hand at which the object clears the target."""
        clearance = 0.03 if self._inside else 0.06
        return max(grasp.z + self._scene.top(self._target) + clearance - resting, grasp.z + 0.08)

    def _carry(self, height: float) -> Actions:
        for _ in range(60):
            offset = self._offset_to_target()
            if np.linalg.norm(offset) < 0.010:
                return
            yield self._towards(np.array([*(self._scene.hand()[:2] + offset), height]))

    def _lower(self) -> Actions:
        scene, target_top = self._scene, self._scene.top(self._target)
        goal = scene.bottom(self._target) + 0.05 if self._inside else target_top - 0.008
        stuck = _NoProgress(patience=4)
        for _ in range(40):
            hand = scene.hand()
            change = goal - scene.bottom(self._object)
            if self._inside:
                change = max(change, target_top + 0.02 - hand[2])  # keep the fingers above the rim
            if change > -0.003 or stuck(-change):
                return
            yield self._towards(np.array([*(hand[:2] + self._offset_to_target()), hand[2] + change]), speed=0.6)

    def _release(self) -> Actions:
        self._gripper = OPEN
        here = self._scene.hand()
        for _ in range(8):
            yield self._towards(here)
        yield from self._move(self._scene.hand() + np.array([0, 0, 0.12]), 15, tolerance=0.02)
        for _ in range(10):  # the object may still be settling
            yield self._towards(self._scene.hand())

    def _offset_to_target(self) -> np.ndarray:
        """Horizontal vector [2] from the object's centre to where that should be."""
        target = self._scene.inside(self._target) if self._inside else self._scene.centre(self._target)
        return (target - self._scene.centre(self._object))[:2]

    def _move(
        self,
        goal: np.ndarray,
        most_steps: int,
        tolerance: float,
        yaw_tolerance: float = 0.06,
        patience: int | None = None,
        speed: float = 1.0,
    ) -> Actions:
        """Steps towards a position until it is reached within the tolerances, or there is no progress."""
        stuck = _NoProgress(most_steps if patience is None else patience)
        for _ in range(most_steps):
            distance = float(np.linalg.norm(goal - self._scene.hand()))
            turned = abs(yaw_error(self._yaw, self._scene.finger_yaw())) < yaw_tolerance
            if (distance < tolerance and turned) or stuck(distance):
                return
            yield self._towards(goal, speed)

    def _towards(self, goal: np.ndarray, speed: float = 1.0) -> np.ndarray:
        """One action: proportional control of position, yaw and tilt, and an integral term close to the goal.

        The arm's own controller leaves an error of about 1 cm, which the integral removes.
        """
        error = goal - self._scene.hand()
        close = np.linalg.norm(error) < 0.04
        self._integral = np.clip(self._integral + 0.25 * error, -0.03, 0.03) if close else np.zeros(3)
        tilt = np.cross(self._scene.hand_direction(), DOWN)
        turn = tilt + np.array([0, 0, yaw_error(self._yaw, self._scene.finger_yaw())])
        action = np.empty(7, dtype=np.float32)
        action[:3] = np.clip((1.3 * error + self._integral) / POSITION_UNIT, -speed, speed)
        action[3:6] = np.clip(turn / ROTATION_UNIT, -0.5, 0.5)
        action[6] = self._gripper
        return action
