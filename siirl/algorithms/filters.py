"""Which groups train: a pure predicate on one group's episodes. Equal outcomes teach nothing under a group baseline."""

from collections.abc import Sequence

import numpy as np

ROUNDING = 1e-9
"""Slack on the bounds: an accuracy of 3 in 10 must meet a bound of 0.1 + 0.2, which is 0.30000000000000004."""


def accuracy_filter(success: Sequence[bool] | np.ndarray, lower: float, upper: float) -> bool:
    """Whether the group's accuracy lies in [lower, upper], bounds included.

    Source: dynamic sampling of Yu et al., DAPO, arXiv:2503.14476, equation 11, with bounds other than 0 and 1.

    Args:
        success: bool [n], one per episode of the group, n ≥ 1.
        lower, upper: accuracies in [0, 1].
    """
    assert len(success) > 0, "a group has at least one episode"
    accuracy = float(np.mean(np.asarray(success, dtype=np.float64)))
    return lower - ROUNDING <= accuracy <= upper + ROUNDING
