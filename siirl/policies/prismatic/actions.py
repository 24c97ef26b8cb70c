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
NORMALIZATION = "action_proprio_normalization_type"
"""Key of ``config.json``. The published code chooses by robot and writes it nowhere: ``bounds_q99`` for LIBERO and Bridge,
``bounds`` for ALOHA."""
LIMITS = {"bounds_q99": ("q01", "q99"), "bounds": ("min", "max")}
"""What each kind of normalisation scales to −1 and 1; the first is the default."""

NO_NOOPS = "_no_noops"
"""Ends the key of a suite's statistics when steps that did nothing were left out of its demonstrations."""


@dataclass(frozen=True)
class Bounds:
    """Scales the limits of D dimensions to −1 and 1, where the mask is true.

    Attributes:
        low, high: the 1 % and 99 % quantiles or the extremes (`LIMITS`), float64 [D].
        mask: bool [D]; false leaves a dimension as it is.
    """

    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray

    @classmethod
    def from_statistics(cls, statistics: dict[str, Any], kind: str = "bounds_q99") -> "Bounds":
        """From one entry (``action`` or ``proprio``) of ``dataset_statistics.json``, by a kind of `LIMITS`.

        Raises:
            ValueError: the entry lacks the limits, or they are not of one length.
        """
        lower, upper = LIMITS[kind]
        low, high = (np.asarray(statistics.get(name, []), np.float64) for name in (lower, upper))
        if not len(low) == len(high) > 0:
            raise ValueError(
                f"the checkpoint's dataset statistics have {len(low)} {lower!r} and {len(high)} {upper!r}, but {NORMALIZATION} "
                f"{kind!r} needs one of each per dimension; correct them, or {NORMALIZATION} in its config.json."
            )
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
    suite = unnorm_key.removesuffix(NO_NOOPS)
    alias = {"libero_long": "libero_10", "libero_10": "libero_long"}.get(suite, suite)
    for key in (unnorm_key, suite + NO_NOOPS, suite, alias + NO_NOOPS, alias):
        if key in statistics:
            return statistics[key]
    known = sorted(statistics)
    raise ValueError(
        f"unnorm_key {unnorm_key!r} is not in the checkpoint's dataset statistics; it has: {', '.join(known)}."
        f"{did_you_mean(unnorm_key, known)} Set actor_rollout_ref.embodied.unnorm_key (load_policy: unnorm_key) to one of them."
    )
