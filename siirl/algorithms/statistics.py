"""Means and spreads that advantages are measured by."""

import numpy as np

EPSILON = 1e-6
"""Added to a standard deviation before dividing by it: equal numbers become 0, whatever their rounding."""


def group_means(x: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the size of each member's group.

    Args:
        x: float64 [n].
        groups: which group each belongs to, int [n]; members need not be adjacent.

    Returns:
        float64 [n] and int [n].
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=x) / sizes
    return means[group], sizes[group]


def whiten(x: np.ndarray) -> np.ndarray:
    """Shift and scale to mean 0 and standard deviation 1 (of these numbers, not of a population); float64 [n].

    Equal numbers, and a single one, become 0.
    """
    if x.size == 0:
        return x
    centred = x - x.mean()
    return centred / (centred.std() + EPSILON)
