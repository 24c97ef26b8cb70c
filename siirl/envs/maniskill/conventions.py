"""From the policy's conventions to ManiSkill's and back."""

import numpy as np

ACTION_DIM = 7
STATE_DIM = 8
DOWN = np.array([0.0, 1.0, 0.0, 0.0], dtype=np.float32)
"""Orientation (w, x, y, z) of a gripper that points straight down."""


def to_maniskill(actions: np.ndarray) -> np.ndarray:
    """Turn actions from the policy's convention into ManiSkill's: float32 [..., 7] → [..., 7].

    OpenVLA's data holds 0 for a closed and 1 for an open gripper, and ManiSkill wants −1 to close and +1 to open. As in
    OpenVLA's evaluation, the gripper is binarised at 0.5 first.
    """
    converted = np.array(actions, dtype=np.float32)
    converted[..., -1] = np.where(converted[..., -1] > 0.5, 1.0, -1.0)
    return converted


def axis_angle(quaternions: np.ndarray) -> np.ndarray:
    """Unit quaternions (w, x, y, z) [B, 4] as rotation vectors float32 [B, 3], angles from 0 to 2π.

    Of the two rotation vectors of an orientation the one is taken that does not jump while a gripper points down: that of the
    quaternion closer to `DOWN`. (The shorter vector jumps there, where the angle is π.)
    """
    closer = np.where(quaternions @ DOWN < 0, -1.0, 1.0)[:, None] * quaternions.astype(np.float64)
    sine = np.linalg.norm(closer[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, closer[:, :1])
    scale = np.divide(angle, sine, out=np.full_like(sine, 2.0), where=sine > 1e-9)
    return (closer[:, 1:] * scale).astype(np.float32)
