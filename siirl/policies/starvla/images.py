"""Camera frames as StarVLA feeds them to a Qwen-VL: resized on the CPU as bytes, cut into patches where the model computes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from siirl.policies.starvla.vlm import VLM

FACTOR, LEAST, MOST = 28, 4, 16384
"""Side of a token and least and most tokens of an image, as ``process_vision_info`` (package qwen-vl-utils) has them, which
StarVLA calls before Qwen2.5-VL's own processor."""


class Images:
    """One model's image processing.

    Args:
        vlm: the base model.
        size: (width, height) that every frame is resized to first; None: none is.
    """

    def __init__(self, vlm: VLM, size: tuple[int, int] | None) -> None:
        self.size = size
        self._whole_tokens = vlm.is_qwen2_5
        self._processor: Any = vlm.processor.image_processor
        bounds = self._processor.size
        self._bounds = {
            "factor": self._processor.patch_size * self._processor.merge_size,
            "min_pixels": bounds["shortest_edge"],
            "max_pixels": bounds["longest_edge"],
        }

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """A frame as the vision tower sees it, uint8 [H, W, 3] → uint8 [h, w, 3], h and w whole patches.

        Up to three steps, as published: to the size that the policy was trained with, and for Qwen2.5-VL to whole patches, both
        by Pillow's bicubic filter; then the processor's own, torchvision's bicubic one with antialias. A frame that has the
        right size already is left as it is by each.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"an image is {frame.dtype} {list(frame.shape)}; it must be uint8 [height, width, 3], in RGB."
            )
        image = Image.fromarray(frame)
        if self.size is not None:
            image = _bicubic(image, self.size)
        if self._whole_tokens:
            image = _bicubic(image, whole_tokens(*image.size))
        height, width = smart_resize(image.height, image.width, **self._bounds)
        if (image.height, image.width) == (height, width):
            return np.asarray(image)
        channels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
        resized = tv.resize(channels, [height, width], interpolation=tv.InterpolationMode.BICUBIC, antialias=True)
        return resized.permute(1, 2, 0).contiguous().numpy()

    def words(self, image: np.ndarray | Tensor) -> int:
        """Image tokens in the prompt that stand for a resized image [h, w, 3]."""
        return int(image.shape[0] * image.shape[1] // self._bounds["factor"] ** 2)

    def patches(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Normalised patches of resized images, one after the other, by the model's own processor.

        Args:
            images: uint8 [h, w, 3] each, all on one device.

        Returns:
            float32 [P, K], P patches of all images and K numbers of each; and the grid of each image, int64 [N, 3]: 1, rows and
            columns of patches.
        """
        channels_first = [image.permute(2, 0, 1) for image in images]
        out = self._processor(
            images=channels_first, do_resize=False, input_data_format="channels_first", return_tensors="pt"
        )
        device = images[0].device
        return out["pixel_values"].to(device), out["image_grid_thw"].to(device)


def whole_tokens(width: int, height: int) -> tuple[int, int]:
    """The nearest width and height of whole tokens, of a number of tokens within bounds. The processor's own rule differs for
    sides below half a token."""
    sides = (width, height)
    tokens = [max(1, round(side / FACTOR)) for side in sides]
    if not LEAST <= tokens[0] * tokens[1] <= MOST:
        few = tokens[0] * tokens[1] < LEAST
        scale = math.sqrt((LEAST if few else MOST) / (width * height))
        tokens = [(math.ceil if few else math.floor)(side * scale) for side in sides]
    return tokens[0] * FACTOR, tokens[1] * FACTOR


def _bicubic(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
