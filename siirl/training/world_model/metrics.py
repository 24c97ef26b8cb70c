"""How good imagined frames and a classifier are: PSNR, SSIM, F1, area under the ROC curve."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def squared_error(ours: Tensor, real: Tensor) -> Tensor:
    """Mean squared error of pictures [B, 3, H, W], [B]."""
    return (ours - real).square().flatten(1).mean(1)


def psnr(errors: Tensor) -> float:
    """Peak signal-to-noise ratio, decibels, of pictures in [0, 1] with these mean squared errors, taken together: single ones may
    have none at all. 100 at most."""
    return float(-10 * errors.mean().clamp_min(1e-10).log10())


def ssim(ours: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of pictures [B, 3, H, W] in [0, 1], [B], with a Gaussian window of 11 pixels (Wang et al. 2004,
    "Image quality assessment: from error visibility to structural similarity", eq. 13)."""
    place = torch.arange(WINDOW, dtype=torch.float32, device=ours.device) - WINDOW // 2
    line = torch.softmax(-(place**2) / (2 * SIGMA**2), 0)
    window = (line[:, None] * line).expand(ours.shape[1], 1, WINDOW, WINDOW)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=values.shape[1])

    a, b = mean(ours), mean(real)
    var_a, var_b, both = mean(ours**2) - a**2, mean(real**2) - b**2, mean(ours * real) - a * b
    alike = (2 * a * b + C1) * (2 * both + C2) / ((a**2 + b**2 + C1) * (var_a + var_b + C2))
    return alike.flatten(1).mean(1)


def f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """Harmonic mean of precision and recall, bool [N] each; 0 where nothing is found."""
    found = float((predicted & true).sum())
    return 2 * found / max(1.0, float(predicted.sum() + true.sum()))


def auc(scores: np.ndarray, true: np.ndarray) -> float:
    """Probability that a positive scores higher than a negative, ties counting half (Mann and Whitney 1947); NaN without both."""
    positive, negative = scores[true], scores[~true]
    if not len(positive) or not len(negative):
        return float("nan")
    order = np.sort(negative)
    below, not_above = np.searchsorted(order, positive, "left"), np.searchsorted(order, positive, "right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))
