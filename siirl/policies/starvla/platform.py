"""What a robot fixes: dimensions of actions and states, and how normalised actions become those of the environment.

``ROBOT_PLATFORM`` in the environment names the robot, as for StarVLA's RL wrapper in RLinf; without it, it is LIBERO's.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from siirl.registry import did_you_mean

VARIABLE = "ROBOT_PLATFORM"
LIMITS = {"minmax": ("min", "max"), "q01q99": ("q01", "q99")}
"""By ``actor_rollout_ref.model.starvla.action_stats_source``: what a normalised −1 and 1 stand for."""


@dataclass(frozen=True)
class Platform:
    """A robot.

    Attributes:
        name: as the variable says it.
        action_dim: D, of which the last is the gripper's, 1 to open and 0 to close; the environment turns it into its own sign.
        state_dims: dimensions that states may have; of the larger, the last two are the gripper's.
    """

    name: str
    action_dim: int
    state_dims: tuple[int, int]


PLATFORMS = {"libero": Platform("libero", 7, (7, 8))}


def platform() -> Platform:
    """The robot that ``ROBOT_PLATFORM`` names. Raises ValueError for another one."""
    name = os.environ.get(VARIABLE, "").strip().lower() or "libero"
    if name not in PLATFORMS:
        raise ValueError(
            f"{VARIABLE} is {os.environ[VARIABLE]!r}; allowed: {', '.join(PLATFORMS)}.{did_you_mean(name, list(PLATFORMS))} Set "
            "it to one of them, or unset it."
        )
    return PLATFORMS[name]


def fit_states(states: np.ndarray, dim: int, robot: Platform) -> np.ndarray:
    """States [B, 7 or 8] as ``dim`` values: of 8, the two of the gripper become their mean where 7 are wanted.

    Raises:
        ValueError: there are neither 7 nor 8, or 7 where 8 are wanted.
    """
    given = states.shape[-1]
    few, many = robot.state_dims
    if given not in robot.state_dims or given < dim:
        allowed = f"{few} or {many}" if dim == few else str(many)
        raise ValueError(
            f"states have {given} values; allowed for {robot.name}: {allowed} (position 3, axis-angle 3, gripper 2, or 1 for "
            "the mean of both). Give the environment's proprioception."
        )
    if given == dim:
        return states
    return np.concatenate([states[..., : many - 2], states[..., many - 2 :].mean(axis=-1, keepdims=True)], axis=-1)


@dataclass(frozen=True)
class ActionScale:
    """Normalised actions ↔ the environment's, float32 as published.

    Attributes:
        low, high: what −1 and 1 stand for, float32 [D].
        mask: bool [D]; false leaves a dimension as it is.
        gripper: index of the gripper, which is all or nothing.
    """

    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray
    gripper: int

    @classmethod
    def from_statistics(cls, statistics: dict[str, Any], source: str, action_dim: int) -> "ActionScale":
        """From the entry ``action`` of ``dataset_statistics.json``.

        Raises:
            ValueError: the limits that ``source`` (a key of `LIMITS`) means are missing, or not one for each dimension.
        """
        arrays = [np.asarray(statistics.get(name, []), np.float32).reshape(-1) for name in LIMITS[source]]
        mask = np.asarray(statistics.get("mask", [True] * action_dim), bool).reshape(-1)
        if sizes := [
            f"{len(a)} {n!r}"
            for a, n in zip((*arrays, mask), (*LIMITS[source], "mask"), strict=True)
            if len(a) != action_dim
        ]:
            raise ValueError(
                f"the checkpoint's dataset statistics have {' and '.join(sizes)} of actions, but actions have {action_dim} "
                f"dimensions and action_stats_source is {source!r}; correct them, or set "
                "actor_rollout_ref.model.starvla.action_stats_source to the other of minmax, q01q99."
            )
        return cls(arrays[0], arrays[1], mask, action_dim - 1)

    def unnormalise(self, actions: np.ndarray) -> np.ndarray:
        """Clip to [−1, 1], decide on the gripper at 0.5, and scale where the mask is true: [..., D] → float32 [..., D].

        Where the mask is true of the gripper too, as it is where statistics have none, closed becomes the middle of its limits;
        the published evaluation opens above 0.5 alone, and so here.
        """
        clipped = np.clip(actions.astype(np.float32), -1, 1)
        clipped[..., self.gripper] = np.where(clipped[..., self.gripper] < 0.5, 0, 1)
        half = np.float32(0.5)
        scaled = np.where(self.mask, half * (clipped + 1) * (self.high - self.low) + self.low, clipped)
        scaled[..., self.gripper] = np.where(scaled[..., self.gripper] > 0.5, 1, 0)
        return scaled

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """What StarVLA trains on: [..., D] → float32 [..., D], in [−1, 1] within the limits; 0 where these are equal."""
        span = self.high - self.low
        scaled = 2 * (actions - self.low) / np.where(span == 0, 1, span) - 1
        return np.where(self.mask, np.where(span == 0, 0, scaled), actions).astype(np.float32)
