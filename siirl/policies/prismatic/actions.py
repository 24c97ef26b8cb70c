"""Action bins and the normalisation of actions and proprioception, as OpenVLA publishes them.

Bin ``b`` in [0, 256) is token ``vocab_size − 256 + b`` (vocab_size without padding). Token ``t`` stands for interval
``vocab_size − t`` of ``linspace(−1, 1, 256)``, so *a higher bin is a lower action*; bins 0 and 1 decode alike, because
256 edges bound 255 intervals. Dimensions whose mask is false are not scaled: in the LIBERO statistics the gripper,
which is 1 for open and 0 for closed in the demonstrations and stays so here; the environment turns it into its own
sign.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from siirl.registry import did_you_mean

EPSILON = 1e-8  # the published code adds it to the range in both directions


@dataclass(frozen=True)
class Bounds:
    """Scales the 1 % and 99 % quantiles of D dimensions to −1 and 1, where the mask is true.

    Attributes:
        low, high: quantiles, float64 [D].
        mask: bool [D]; false leaves a dimension as it is.
    """

    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray

    @classmethod
    def from_statistics(cls, statistics: dict[str, Any]) -> "Bounds":
        """From one entry (``action`` or ``proprio``) of ``dataset_statistics.json``."""
        low, high = np.asarray(statistics["q01"], np.float64), np.asarray(statistics["q99"], np.float64)
        return cls(low, high, np.asarray(statistics.get("mask", [True] * len(low)), bool))

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """[..., D] → [..., D] in [−1, 1], clipped."""
        scaled = 2 * (values - self.low) / (self.high - self.low + EPSILON) - 1
        return np.clip(np.where(self.mask, scaled, values), -1, 1)

    def unnormalise(self, values: np.ndarray) -> np.ndarray:
        """The inverse for values in [−1, 1], [..., D] → [..., D]."""
        return np.where(self.mask, 0.5 * (values + 1) * (self.high - self.low + EPSILON) + self.low, values)


@dataclass(frozen=True)
class ActionCodec:
    """Actions ↔ bins.

    Attributes:
        bounds: normalisation of the actions.
        num_bins: 256 in every published checkpoint.
    """

    bounds: Bounds
    num_bins: int = 256

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., D] → bins int64 [..., D]: the label of a demonstration."""
        edges = np.linspace(-1, 1, self.num_bins)
        return self.num_bins - np.digitize(self.bounds.normalise(actions), edges)

    def decode(self, bins: np.ndarray) -> np.ndarray:
        """Bins [..., D] → actions float64 [..., D], at the middle of the bin."""
        edges = np.linspace(-1, 1, self.num_bins)
        centres = (edges[:-1] + edges[1:]) / 2
        interval = np.clip(self.num_bins - bins - 1, 0, len(centres) - 1)
        return self.bounds.unnormalise(centres[interval])


def find_statistics(statistics: dict[str, Any], unnorm_key: str) -> dict[str, Any]:
    """The entry of ``dataset_statistics.json`` for a suite.

    ``<suite>`` also finds ``<suite>_no_noops``, and libero_long and libero_10 are one suite.

    Raises:
        ValueError: no entry fits; the message lists those there are.
    """
    suite = unnorm_key.removesuffix("_no_noops")
    alias = {"libero_long": "libero_10", "libero_10": "libero_long"}.get(suite, suite)
    for key in (unnorm_key, f"{suite}_no_noops", suite, f"{alias}_no_noops", alias):
        if key in statistics:
            return statistics[key]
    known = sorted(statistics)
    raise ValueError(
        f"unnorm_key {unnorm_key!r} is not in the checkpoint's dataset statistics; it has: {', '.join(known)}."
        f"{did_you_mean(unnorm_key, known)} Set actor_rollout_ref.embodied.unnorm_key to one of them."
    )
