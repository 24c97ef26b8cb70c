"""V-JEPA 2 video embeddings, from the published checkpoints or Hugging Face folders.

Source: Assran et al., V-JEPA 2, arXiv:2506.09985, and its published evaluation code (preprocessing, parameter names).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from siirl.config.schema import EmbodiedConfig
from siirl.embeddings.base import ENCODERS, checked_frames
from siirl.embeddings.vjepa2_weights import check_encoder, load_encoder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@ENCODERS.register("vjepa2")
class VJEPA2:
    """A V-JEPA 2 encoder; an episode's embedding is the mean over its tokens.

    Attributes:
        num_frames: frames per video.
        img_size: side of the square that the encoder sees, pixels.
    """

    def __init__(
        self, encoder: nn.Module, img_size: int, num_frames: int, device: torch.device, half: bool, offload: bool
    ) -> None:
        self.num_frames = num_frames
        self.img_size = img_size
        self._device = device
        self._offload = offload and device.type != "cpu"
        self._autocast = torch.autocast(
            device.type, dtype=torch.bfloat16 if device.type == "cpu" else torch.float16, enabled=half
        )
        self._encoder = encoder.eval().requires_grad_(False).to("cpu" if self._offload else device)

    @staticmethod
    def check(config: EmbodiedConfig) -> None:
        """Raises ValueError as `load_vjepa2` does, for what the headers of the files tell, or when no path is given."""
        check_encoder(_path(config), config.embedding_img_size, config.embedding_num_frames)

    @staticmethod
    def load(config: EmbodiedConfig, device: torch.device) -> "VJEPA2":
        """The encoder that the config names. Raises ValueError as `load_vjepa2` does, or when no path is given."""
        return load_vjepa2(
            _path(config),
            config.embedding_img_size,
            config.embedding_num_frames,
            device=device,
            half=config.embedding_enable_fp16,
            offload=config.embedding_model_offload,
        )

    @torch.inference_mode()
    def encode(self, frames: np.ndarray | Tensor) -> Tensor:
        """frames uint8 [B, T, H, W, 3] with T = ``num_frames`` → float32 [B, E] on the CPU.

        Videos go through the encoder one by one: a video of 64 frames of 384² is 18 432 tokens and fills an
        accelerator, and so its embedding does not depend on the rest of the batch.

        Raises:
            ValueError: ``frames`` has another shape or dtype.
        """
        videos = checked_frames(frames, self.num_frames)
        with self._on_device(), self._autocast:
            return torch.stack([self._embed(video.to(self._device)).cpu() for video in videos])

    def _embed(self, video: Tensor) -> Tensor:
        """video uint8 [T, H, W, 3] → float32 [E]."""
        pixels = preprocess(video, self.img_size)
        return self._encoder(pixel_values_videos=pixels[None]).last_hidden_state.float().mean(dim=1)[0]

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        if not self._offload:
            yield
            return
        self._encoder.to(self._device)
        try:
            yield
        finally:
            self._encoder.to("cpu")


def _path(config: EmbodiedConfig) -> str:
    if not config.video_embedding_model_path:
        raise ValueError(
            "video_encoder=vjepa2 needs weights: set actor_rollout_ref.embodied.video_embedding_model_path to a "
            "published V-JEPA 2 .pt file or a Hugging Face folder, or choose video_encoder=pixels"
        )
    return config.video_embedding_model_path


def load_vjepa2(
    path: str,
    img_size: int,
    num_frames: int,
    *,
    device: torch.device | str = "cpu",
    half: bool = False,
    offload: bool = False,
) -> VJEPA2:
    """Load V-JEPA 2's encoder.

    Args:
        path: a published ``.pt`` file, or a folder in Hugging Face layout.
        img_size: side of the frames that the encoder sees, pixels; a multiple of the patch size (16).
        num_frames: frames per video; a multiple of the tubelet size (2).
        device: where to compute.
        half: run under autocast: float16 on accelerators, bfloat16 on the CPU. The weights stay float32.
        offload: keep the weights in host memory between uses (accelerators only).

    Raises:
        ValueError: no such file, not a V-JEPA 2 checkpoint, missing, surplus or mis-shaped parameters, a size that the
            patches or tubelets do not divide, or weights of another size: a folder whose config.json names other frames
            or another depth, or a ``.pt`` file of another depth than the published encoder of its width. A ``.pt`` file
            does not say which frames it was trained on: its positions are rotary.
    """
    target = torch.device(device)
    encoder = load_encoder(path, img_size, num_frames)
    return VJEPA2(encoder, img_size, num_frames, target, half, offload)


def preprocess(video: Tensor, img_size: int) -> Tensor:
    """V-JEPA 2's evaluation transform: uint8 [T, H, W, 3] → float32 [T, 3, img_size, img_size].

    The short side is resized to 256/224 · img_size (bilinear with antialias, rounded to whole levels as the published
    transform does), the central square is cut out, and ImageNet's mean and standard deviation are applied. Frames that
    already are img_size² count as cut out: they are neither resized nor cropped.
    """
    pixels = video.permute(0, 3, 1, 2).float()
    height, width = pixels.shape[-2:]
    if (height, width) != (img_size, img_size):
        short = img_size * 256 // 224
        size = [short * side // min(height, width) for side in (height, width)]
        pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True).round()
        top, left = (round((side - img_size) / 2) for side in size)
        pixels = pixels[..., top : top + img_size, left : left + img_size]
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels / 255 - mean) / std
