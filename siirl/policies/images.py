"""Camera frames as OpenVLA's published evaluation feeds them to the network, without TensorFlow."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from siirl.policies.jpeg import jpeg_round_trip

CROP_AREA = 0.9  # fraction of the image kept by the centre crop, after training with random crops of that area


def openvla_image(frame: np.ndarray, size: int = 224, center_crop: bool = True) -> np.ndarray:
    """JPEG round trip, Lanczos-3 resize with antialias, then (optionally) the central 90 % of the area, resized back.

    Args:
        frame: uint8 [H, W, 3].
        size: side of the result, pixels.
        center_crop: crop, as for models trained with random crops.

    Returns:
        uint8 [size, size, 3].
    """
    height, width, _ = frame.shape
    image = torch.from_numpy(jpeg_round_trip(frame)).permute(2, 0, 1).float()
    image = lanczos_weights(height, size) @ image @ lanczos_weights(width, size).T
    image = image.round().clamp(0, 255)
    if center_crop:
        weights = crop_weights(size)
        # tf.image.convert_image_dtype multiplies by 255.5 and truncates
        image = (weights @ image @ weights.T * (255.5 / 255)).clamp(0, 255)
    return image.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()


@lru_cache
def lanczos_weights(source: int, target: int) -> Tensor:
    """Matrix [target, source] of a Lanczos-3 resize with antialias (half-pixel centres, rows sum to 1)."""
    scale = max(source / target, 1.0)
    centres = (np.arange(target) + 0.5) * source / target
    distance = (np.arange(source) + 0.5 - centres[:, None]) / scale
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).float()


@lru_cache
def crop_weights(size: int) -> Tensor:
    """Matrix [size, size] of the centre crop with bilinear resize back, in which corner pixels coincide with the box's
    corners (``tf.image.crop_and_resize``)."""
    side = np.sqrt(CROP_AREA)
    positions = ((1 - side) / 2 + np.linspace(0, 1, size) * side) * (size - 1)
    return torch.from_numpy(np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(size)))).float()
