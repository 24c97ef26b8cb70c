"""A video embedding without weights: where in the picture things have moved by the middle and the end of the episode.

Plain pixel distances are a poor measure of progress: once the arm is a grid cell away from where a success left it, the
distance no longer grows. The cumulative distributions of change along the picture's two axes do grow with every cell
(their L2 distance is Cramér's distance, of the earth mover's family), and ignore the still background.

Made for smoke tests, small experiments and machines without V-JEPA 2 weights; it assumes a camera that stands still.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from siirl.config.schema import EmbodiedConfig
from siirl.embeddings.base import ENCODERS, checked_frames

GRID = 16
"""Cells per side: E = 2 moments × 2 axes × 16 = 64. Few dimensions, because the shared features matter, not textures.
(At any such E, DBSCAN with eps 0.5 on standardised embeddings finds no cluster but of near copies: SRPO uses the
mean.)"""
MOMENTS = ((0.5, 0.5), (1.0, 1.0))
"""(Position in the episode, weight): how it ends tells more than how it went."""
NOISE = 0.02
"""Changes of brightness below this, of 1, are shading and no motion."""


@ENCODERS.register("pixels")
class Pixels:
    """Distribution of change over the picture's columns and rows; deterministic, each row independent of the batch."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    @staticmethod
    def check(config: EmbodiedConfig) -> None:
        """Nothing can be wrong: there are no weights."""

    @staticmethod
    def load(config: EmbodiedConfig, device: torch.device) -> "Pixels":
        """The encoder; it always computes on the CPU, where its three small frames per episode are."""
        return Pixels(config.embedding_num_frames)

    def encode(self, frames: np.ndarray | Tensor) -> Tensor:
        """frames uint8 [B, T, H, W, 3] with T = ``num_frames`` → float32 [B, 64] on the CPU.

        Raises:
            ValueError: ``frames`` has another shape or dtype.
        """
        videos = checked_frames(frames, self.num_frames).cpu()
        start = _brightness(videos[:, 0])
        return torch.cat([weight * self._change(videos, start, position) for position, weight in MOMENTS], dim=1)

    def _change(self, videos: Tensor, start: Tensor, position: float) -> Tensor:
        """How the change since ``start`` [B, 16, 16] is distributed at ``position`` of the episode, [B, 32]."""
        change = (_brightness(videos[:, round(position * (self.num_frames - 1))]) - start).abs()
        change = torch.where(change > NOISE, change, 0)
        # Where nothing moved all shares are 0, which is as far from a success as can be.
        share = change / change.sum(dim=(1, 2), keepdim=True).clamp(min=NOISE)
        return torch.cat([share.sum(dim=axis).cumsum(dim=1) for axis in (1, 2)], dim=1)


def _brightness(frames: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → mean brightness of each grid cell, float32 [B, 16, 16] in [0, 1]."""
    cells = functional.adaptive_avg_pool2d(frames.permute(0, 3, 1, 2).float(), GRID)
    return cells.mean(dim=1) / 255
