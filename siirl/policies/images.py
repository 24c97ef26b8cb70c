"""Camera frames as OpenVLA's published evaluation feeds them to the network, without TensorFlow."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

CROP_AREA = 0.9  # fraction of the image kept by the centre crop, after training with random crops of that area
JPEG_QUALITY = 95  # TensorFlow's default; the demonstrations were stored as JPEG


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
    image = _jpeg_round_trip(frame).astype(np.float32)
    image = _apply(lanczos_weights(height, size), lanczos_weights(width, size), image)
    image = np.clip(np.rint(image), 0, 255)
    if center_crop:
        weights = crop_weights(size)
        # tf.image.convert_image_dtype multiplies by 255.5 and truncates
        image = np.clip(np.floor(_apply(weights, weights, image) * (255.5 / 255)), 0, 255)
    return image.astype(np.uint8)


def _jpeg_round_trip(frame: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return np.asarray(Image.open(buffer))


def _apply(rows: np.ndarray, columns: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Resample both axes: rows [h, H], columns [w, W], image [H, W, 3] → [h, w, 3]."""
    height, width, channels = image.shape
    vertical = (rows @ image.reshape(height, width * channels)).reshape(-1, width, channels)
    return np.matmul(columns, vertical)


@lru_cache
def lanczos_weights(source: int, target: int) -> np.ndarray:
    """Matrix [target, source] of a Lanczos-3 resize with antialias (half-pixel centres, rows sum to 1)."""
    scale = max(source / target, 1.0)
    centres = (np.arange(target) + 0.5) * source / target
    distance = (np.arange(source) + 0.5 - centres[:, None]) / scale
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache
def crop_weights(size: int) -> np.ndarray:
    """Matrix [size, size] of the centre crop with bilinear resize back, in which corner pixels coincide with the box's corners
    (``tf.image.crop_and_resize``)."""
    side = np.sqrt(CROP_AREA)
    positions = ((1 - side) / 2 + np.linspace(0, 1, size) * side) * (size - 1)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(size))).astype(np.float32)
