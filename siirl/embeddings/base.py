"""The contract of a video encoder. One encoder = one file in this package, registered by name."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from siirl.config.schema import EmbodiedConfig
from siirl.registry import Registry


class VideoEncoder(Protocol):
    """Maps videos to vectors whose distances tell how alike two episodes went."""

    num_frames: int

    def encode(self, frames: np.ndarray | Tensor) -> Tensor:
        """frames uint8 [B, T, H, W, 3] with T = ``num_frames`` → float32 [B, E] on the CPU."""
        ...


class EncoderFactory(Protocol):
    """What is registered: builds an encoder from the config."""

    @staticmethod
    def check(config: EmbodiedConfig) -> None:
        """Raises ValueError as `load` does, for what shows without reading the weights."""
        ...

    @staticmethod
    def load(config: EmbodiedConfig, device: torch.device) -> VideoEncoder: ...


def encoder_name(config: EmbodiedConfig) -> str:
    """The encoder that ``video_encoder`` means: auto is vjepa2 when a path is given, else pixels."""
    if config.video_encoder != "auto":
        return config.video_encoder
    return "vjepa2" if config.video_embedding_model_path else "pixels"


ENCODERS: Registry[EncoderFactory] = Registry("video_encoder", "siirl.embeddings")


def checked_frames(frames: np.ndarray | Tensor, num_frames: int) -> Tensor:
    """The videos as a tensor uint8 [B, T, H, W, 3] with T = ``num_frames``.

    Raises:
        ValueError: they have another shape or dtype.
    """
    videos = torch.as_tensor(frames)
    if videos.ndim != 5 or videos.shape[1] != num_frames or videos.shape[-1] != 3 or videos.dtype != torch.uint8:
        raise ValueError(
            f"frames must be uint8 [B, {num_frames}, H, W, 3], but they are {videos.dtype} {[*videos.shape]}"
        )
    return videos
