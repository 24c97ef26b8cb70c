"""Where things start: a square lattice of places on the table, yaws, and poses of the arm. All in metres and radians.

Distances are compared on the lattice's whole numbers, so the list of layouts, and with it the number of every episode, is the
same on every machine.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

CENTRE = (-0.16, 0.0)
STEP = 0.03
INNER = range(6)
"""Lattice rows and columns of the training square, 15 cm wide."""

DROP_HEIGHT = 0.95
"""An object and its plate fall onto the table (at 0.87) from here."""
DROP_HEIGHTS_OF_THREE = {"object": (0.95, 0.92, 1.0), "plate": (1.0, 0.92, 0.96)}
"""Of an object, its plate and a third thing of this kind."""


@dataclass(frozen=True)
class Layouts:
    """Choices of where things start; every place goes with every yaw.

    Attributes:
        places: float64 [L, P, 3], positions of the object, the plate and, with P = 3, of a third thing.
        yaws: float64 [Y], rotation of the object about the vertical.
        num_train: how many of the places and of the yaws are for training; the rest is held out.
    """

    places: np.ndarray
    yaws: np.ndarray
    num_train: tuple[int, int]


def _lattice(rows: range, ring_only: bool = False) -> np.ndarray:
    """Lattice points int [M, 2], row by row; ``ring_only`` leaves the outermost ones."""
    edge = (rows[0], rows[-1])
    return np.array([p for p in product(rows, rows) if not ring_only or p[0] in edge or p[1] in edge])


def _apart(a: np.ndarray, b: np.ndarray, metres: float) -> np.ndarray:
    """Which points of a and b are more than ``metres`` apart, bool [len(a), len(b)]."""
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return squared > (metres / STEP) ** 2 + 1e-6


def _positions(points: np.ndarray, height: float) -> np.ndarray:
    xy = np.array(CENTRE) + (points - (len(INNER) - 1) / 2) * STEP
    return np.concatenate([xy, np.full((len(points), 1), height)], axis=1)


def _pairs(points: np.ndarray) -> np.ndarray:
    """Object and plate, more than 7 cm apart, [L, 2, 3]."""
    first, second = np.nonzero(_apart(points, points, 0.07))
    return np.stack([_positions(points[i], DROP_HEIGHT) for i in (first, second)], axis=1)


TRAIN_YAWS = np.arange(4) * np.pi / 4
HELD_OUT_YAWS = -np.pi / 8 * np.array([1, 3, 5, 7])


@cache
def usual() -> Layouts:
    """The training square: 784 pairs of places."""
    places = _pairs(_lattice(INNER))
    return Layouts(places, TRAIN_YAWS, (len(places), len(TRAIN_YAWS)))


@cache
def with_surroundings() -> Layouts:
    """The training square, then held-out pairs of places on the ring around it, with held-out yaws."""
    inner, ring = _pairs(_lattice(INNER)), _pairs(_lattice(range(-1, 7), ring_only=True))
    return Layouts(
        np.concatenate([inner, ring]), np.concatenate([TRAIN_YAWS, HELD_OUT_YAWS]), (len(inner), len(TRAIN_YAWS))
    )


@cache
def of_three(third: str) -> Layouts:
    """Three places of the training square. The third is more than 15 cm from its like and 7 cm from the other.

    Args:
        third: ``"object"`` or ``"plate"``: what the third place is for.
    """
    points = _lattice(INNER)
    near, far = _apart(points, points, 0.07), _apart(points, points, 0.15)
    to_object, to_plate = (far, near) if third == "object" else (near, far)
    chosen = np.nonzero(near[:, :, None] & to_object[:, None, :] & to_plate[None, :, :])
    heights = DROP_HEIGHTS_OF_THREE[third]
    places = np.stack([_positions(points[i], height) for i, height in zip(chosen, heights, strict=True)], axis=1)
    return Layouts(places, TRAIN_YAWS, (len(places), len(TRAIN_YAWS)))


@cache
def arm_offsets() -> np.ndarray:
    """What is added to the arm's joints at the start, float64 [A, 8]: first nothing, then all combinations in which shoulder
    and elbow do not add up to more than 0.25."""
    small, wrist = (-0.15, -0.08, 0.0, 0.08, 0.15), (-0.6, -0.3, 0.0, 0.3, 0.6)
    offsets = [(*p, 0.0, 0.0) for p in product(small, small, small, small, small, wrist) if abs(p[1] + p[2]) <= 0.25]
    return np.array([(0.0,) * 8, *offsets])
