"""Rectified flow: how noise becomes latents, and how the network that does it is trained.

Time runs from 1000, noise, to 0, data; on a straight line between them the velocity is data − noise. Sources: Liu et al., *Flow
Straight and Fast*, arXiv:2209.03003; Esser et al., arXiv:2403.03206 (shifted timesteps, logit-normal training timesteps), with
the constants of the published OpenSora scheduler. That one uses no classifier-free guidance, and adds noise to condition frames
in training only.
"""

import torch
from torch import Tensor

from siirl.envs.world_model.stdit3 import CONDITION_TIMESTEP, STDiT3

NOISE = 1000
"""The timestep of pure noise."""
BASE_SIDE = 512
"""Pixels of the side of a square image for which, alone, timesteps are not shifted."""
FRAMES_COUNTED = 4
"""A video counts as this many images when timesteps are shifted, however long it is."""


def shift(timesteps: Tensor, image_size: int) -> Tensor:
    """Shift timesteps towards noise for large videos, away from it for small ones; at 256 pixels nothing changes. Below some
    128 pixels a model that is trained so hardly ever sees noise, from which sampling starts: small ones are trained without."""
    ratio = image_size / BASE_SIDE * FRAMES_COUNTED**0.5
    fraction = timesteps / NOISE
    return ratio * fraction / (1 + (ratio - 1) * fraction) * NOISE


def schedule(steps: int, image_size: int, use_timestep_transform: bool = True) -> Tensor:
    """The ``steps`` timesteps of sampling, float32 [steps], from noise downwards; data, at 0, is not among them."""
    timesteps = (1 - torch.arange(steps, dtype=torch.float32) / steps) * NOISE
    return shift(timesteps, image_size) if use_timestep_transform else timesteps


@torch.no_grad()
def sample(
    model: STDiT3,
    condition: Tensor,
    noise: Tensor,
    actions: Tensor,
    timesteps: Tensor,
    image_size: int,
    reuse_condition: bool = True,
) -> Tensor:
    """Denoise the frames that follow condition frames, by Euler steps.

    Args:
        condition: latents [B, C, K, H, W].
        noise: [B, C, F, H, W], standard normal.
        actions: [B, F, action_dim], normalised.
        timesteps: see `schedule`.
        image_size: side of the images, pixels.
        reuse_condition: encode the condition frames once; else again at every step, which gives the same but takes longer.

    Returns:
        Latents float32 [B, C, F, H, W].
    """
    side = torch.full((len(noise),), image_size)
    kept = condition.shape[2]
    generated = (torch.arange(kept + noise.shape[2], device=noise.device) >= kept).expand(len(noise), -1)
    past = model.encode_condition(condition, side, side) if reuse_condition else None
    latents = noise.float()
    for now, after in zip(timesteps.tolist(), [*timesteps[1:].tolist(), 0.0], strict=True):
        time = torch.full((len(noise),), now, device=noise.device)
        if past is not None:
            output = model.denoise(latents, time, actions, past, side, side)
        else:
            frames = torch.cat((condition.float(), latents), dim=2)
            output = model(frames, time, actions, generated, side, side)[:, :, kept:]
        latents = latents + output[:, : noise.shape[1]] * ((now - after) / NOISE)
    return latents


def rectified_flow_loss(
    model: STDiT3,
    latents: Tensor,
    actions: Tensor,
    condition_frames: int,
    image_size: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The published training loss of a batch of windows; the model's config says whether timesteps are shifted.

    Args:
        latents: [B, C, T, H, W] of ``condition_frames`` frames and those to learn.
        actions: [B, T − condition_frames, action_dim], normalised; the i-th leads to frame ``condition_frames + i``.
        image_size: side of the images, pixels.
        generator: draws timesteps (logit-normal) and noise, on the CPU.

    Returns:
        Mean squared error of the velocity over the frames to learn, a scalar.
    """
    batch, frames = latents.shape[0], latents.shape[2]
    drawn = torch.randn(batch, generator=generator).sigmoid() * NOISE
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    time = (shift(drawn, image_size) if model.config.use_timestep_transform else drawn).to(latents.device)
    learnt = (torch.arange(frames, device=latents.device) >= condition_frames).expand(batch, -1)
    times = torch.where(learnt, time[:, None], CONDITION_TIMESTEP)
    side = torch.full((batch,), image_size)
    output = model(mixed(latents, noise, times), time, actions, learnt, side, side)
    error = output[:, : latents.shape[1]] - (latents - noise)
    return error[:, :, condition_frames:].pow(2).mean()


def mixed(latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Latents [B, C, T, H, W] as far on the way to noise as ``timesteps`` [B, T] say."""
    fraction = (timesteps / NOISE)[:, None, :, None, None]
    return (1 - fraction) * latents + fraction * noise
