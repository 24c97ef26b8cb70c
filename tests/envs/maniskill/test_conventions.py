"""Grippers and orientations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from siirl.envs.maniskill.conventions import axis_angle, to_maniskill

components = arrays(np.float32, 4, elements=st.floats(-1, 1, width=32)).filter(lambda q: np.linalg.norm(q) > 0.1)


@pytest.mark.parametrize(("policy", "maniskill"), [(0.0, -1.0), (0.3, -1.0), (0.5, -1.0), (0.7, 1.0), (1.0, 1.0)])
def test_gripper_is_binarised(policy: float, maniskill: float) -> None:
    action = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, policy], np.float32)
    converted = to_maniskill(action)
    np.testing.assert_array_equal(converted[:6], action[:6])
    assert converted[6] == maniskill
    assert action[6] == np.float32(policy), "the given array is left alone"


@given(components)
def test_a_quaternion_and_its_negative_are_one_orientation(raw: np.ndarray) -> None:
    quaternion = (raw / np.linalg.norm(raw))[None]
    np.testing.assert_allclose(rotation_of(axis_angle(quaternion)[0]), matrix(quaternion[0]), atol=1e-5)
    np.testing.assert_allclose(rotation_of(axis_angle(-quaternion)[0]), matrix(quaternion[0]), atol=1e-5)


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-3, 3))
def test_no_jump_while_the_gripper_points_down(roll: float, pitch: float, yaw: float) -> None:
    """Neighbouring orientations have neighbouring vectors, on either side of the half turn."""

    def down(tilt: float) -> np.ndarray:
        turn = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
        half = np.array([np.cos((np.pi + tilt) / 2), np.sin((np.pi + tilt) / 2), 0, 0])
        lean = np.array([np.cos(pitch / 2), 0, np.sin(pitch / 2), 0])
        return product(product(turn, lean), half)

    before, after = axis_angle(down(roll)[None])[0], axis_angle(down(roll + 0.01)[None])[0]
    assert np.linalg.norm(after - before) < 0.1


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of two quaternions."""
    w, v = a[0] * b[0] - a[1:] @ b[1:], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])
    return np.array([w, *v])


def matrix(q: np.ndarray) -> np.ndarray:
    """The rotation matrix of a unit quaternion."""
    w, x, y, z = q.astype(np.float64)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = np.linalg.norm(vector.astype(np.float64))
    x, y, z = vector / angle if angle > 1e-9 else vector
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
