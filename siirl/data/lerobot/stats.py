"""Statistics as LeRobot keeps them: of each feature in each episode, and of all episodes together."""

from collections.abc import Sequence

import numpy as np

QUANTILES = (1, 10, 50, 90, 99)
Stats = dict[str, np.ndarray]
"""min, max, mean, std, count [1], and q01 to q99 of a feature: [D] for vectors, [3, 1, 1] in [0, 1] for images."""


def of_vectors(values: np.ndarray) -> Stats:
    """Of ``values`` [L, D]."""
    values = np.asarray(values, np.float64)
    moments = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    quantiles = np.quantile(values, np.array(QUANTILES) / 100, axis=0)
    return (
        moments
        | {"count": np.array([len(values)])}
        | {f"q{q:02d}": v for q, v in zip(QUANTILES, quantiles, strict=True)}
    )


def of_frames(frames: np.ndarray) -> Stats:
    """Of all pixels of ``frames`` uint8 [F, H, W, 3], exactly: each channel's histogram tells everything."""
    histograms = np.stack([np.bincount(frames[..., c].ravel(), minlength=256) for c in range(3)])  # [3, 256]
    levels = np.arange(256) / 255
    pixels = histograms.sum(1)
    mean = histograms @ levels / pixels
    stats = {
        "min": levels[(histograms > 0).argmax(1)],
        "max": levels[255 - (histograms[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(histograms @ levels**2 / pixels - mean**2, 0)),
    }
    below = histograms.cumsum(1) / pixels[:, None]
    stats |= {f"q{q:02d}": levels[(below >= q / 100).argmax(1)] for q in QUANTILES}
    return {name: value.reshape(3, 1, 1) for name, value in stats.items()} | {"count": np.array([len(frames)])}


def aggregate(parts: Sequence[Stats]) -> Stats:
    """Of several episodes together. Quantiles cannot be computed from those of the parts: they are the widest, as LeRobot
    gives them, the lowest up to the median and the highest above it."""
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    count = stacked["count"]
    weight = (count / count.sum()).reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (weight * stacked["mean"]).sum(0)
    variance = (weight * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    result = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    result["count"] = count.sum(0)
    for q in QUANTILES:
        result[f"q{q:02d}"] = stacked[f"q{q:02d}"].min(0) if q <= 50 else stacked[f"q{q:02d}"].max(0)
    return result
