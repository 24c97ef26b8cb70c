"""What the environment needs of a video model. A backend implements it, and knows nothing of slots, episodes and rewards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass
class Imagined:
    """What a video model makes of S memories and chunks of T actions.

    Attributes:
        frames: uint8 [S, T, H, W, 3], on the model's device, one for each action.
        memory: what the next chunk is imagined from, [S, …], on the model's device.
        finite: bool [S], on the model's device; False where the model came to NaN or infinity, and the frames mean nothing.
    """

    frames: Tensor
    memory: Tensor
    finite: Tensor


class VideoModel(Protocol):
    """Imagines frames from earlier ones and actions. What it makes of a row depends on that row alone.

    Attributes:
        chunk: actions per call, and frames imagined for them.
        image_size: side of the frames, pixels.
    """

    chunk: int
    image_size: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def begin(self, frames: Tensor) -> Tensor:
        """The memory [S, …] of episodes that start with ``frames`` uint8 [S, H, W, 3], on the model's device."""
        ...

    def imagine(self, memory: Tensor, actions: np.ndarray, seeds: Sequence[int]) -> Imagined:
        """The frames after each of ``actions`` float32 [S, T, 7], as the imagined simulator takes them; the noise of a row is
        drawn from its seed, in [0, 2⁶³)."""
        ...

    def to(self, device: torch.device) -> None:
        """Move all parameters."""
        ...

    def success(self, frames: Tensor) -> Tensor:
        """How probable it is that the goal is reached in each of ``frames`` uint8 [S, T, H, W, 3]: float32 [S, T]."""
        ...
