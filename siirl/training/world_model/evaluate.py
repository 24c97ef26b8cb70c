"""A trained world model on rollouts that it has not seen: chunk by chunk, over whole episodes, and its classifier alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from siirl.envs.world_model.opensora import OpenSoraModel
from siirl.envs.world_model.vae import AutoencoderKL
from siirl.training.world_model.metrics import auc, f1, psnr, squared_error, ssim
from siirl.training.world_model.networks import labelled, taken, windows
from siirl.training.world_model.rollouts import Rollout, Rollouts

ROWS = 16
"""Chunks imagined, and frames classified, at a time."""


def measure(
    model: OpenSoraModel,
    vae: AutoencoderKL,
    data: Rollouts,
    latents: Tensor,
    held: list[Rollout],
    threshold: float,
) -> dict[str, float]:
    """Every number, by name.

    - ``psnr``, ``ssim``: frames imagined from the recorded past and actions, beside the recorded ones; ``still_…`` of repeating
      the last frame, ``autoencoder_…`` of the recorded frames seen through the autoencoder: a floor and a ceiling.
    - ``classifier_f1`` (at ``threshold``), ``classifier_auc``: on recorded frames.
    - ``episodes``, ``succeeded``, ``imagined_succeeded``, ``imagined_agrees``: whole episodes imagined from their first frame and
      actions; how many the classifier says have succeeded, and in what part of them it says what happened.
    """
    return {
        **_chunks(model, vae, data, latents, held),
        **_classifier(model, data, held, threshold),
        **_episodes(model, data, held, threshold),
    }


@torch.no_grad()
def _chunks(
    model: OpenSoraModel, vae: AutoencoderKL, data: Rollouts, latents: Tensor, held: list[Rollout]
) -> dict[str, float]:
    """Pictures of one chunk each."""
    errors: dict[str, list[Tensor]] = {}
    alike: dict[str, list[Tensor]] = {}
    for rows, actions in _held_windows(held, model.condition_frames, model.chunk):
        known, wanted = rows[:, : model.condition_frames], rows[:, model.condition_frames :]
        memory = latents[known].transpose(1, 2).to(model.device)
        ours = model.imagine(memory, actions, range(len(rows))).frames.cpu().flatten(0, 1)
        decoded = vae.decode(latents[wanted].flatten(0, 1).to(model.device)).cpu()
        still = known[:, -1:].expand_as(wanted)
        real = _pictures(torch.from_numpy(data.frames[wanted.flatten().numpy()]))
        shown = {
            "": _pictures(ours),
            "still_": _pictures(torch.from_numpy(data.frames[still.flatten().numpy()])),
            "autoencoder_": ((decoded + 1) / 2).clamp(0, 1),
        }
        for name, pictures in shown.items():
            errors.setdefault(f"{name}psnr", []).append(squared_error(pictures, real))
            alike.setdefault(f"{name}ssim", []).append(ssim(pictures, real))
    means = {name: float(torch.cat(values).mean()) for name, values in alike.items()}
    return {name: psnr(torch.cat(values)) for name, values in errors.items()} | means


def _held_windows(held: list[Rollout], condition: int, chunk: int) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Windows one after another, those that reach behind an episode's end left out."""
    rows, actions = [], []
    for one in held:
        start = torch.arange(0, len(one.actions) - chunk + 1, chunk)
        if len(start):
            frames, numbers = windows(one, start, condition, chunk)
            rows.append(frames)
            actions.append(taken(one, numbers))
    if rows:
        yield from zip(torch.cat(rows).split(ROWS), _split(np.concatenate(actions)), strict=True)


def _split(values: np.ndarray) -> list[np.ndarray]:
    return [values[i : i + ROWS] for i in range(0, len(values), ROWS)]


def _classifier(model: OpenSoraModel, data: Rollouts, held: list[Rollout], threshold: float) -> dict[str, float]:
    """On recorded frames."""
    positive, negative = labelled(held)
    rows = torch.cat([positive, negative])
    frames = (torch.from_numpy(data.frames[some.numpy()]) for some in rows.split(ROWS))
    scores = torch.cat([model.success(some[None])[0].cpu() for some in frames]).numpy()
    true = np.arange(len(rows)) < len(positive)
    return {"classifier_f1": f1(scores >= threshold, true), "classifier_auc": auc(scores, true)}


def _episodes(model: OpenSoraModel, data: Rollouts, held: list[Rollout], threshold: float) -> dict[str, float]:
    """Imagined from the first frame on."""
    true = np.array([one.success for one in held])
    imagined = np.array([_succeeds(model, data, one, number, threshold) for number, one in enumerate(held)])
    return {
        "episodes": float(len(held)),
        "succeeded": float(true.sum()),
        "imagined_succeeded": float(imagined.sum()),
        "imagined_agrees": float((true == imagined).mean()),
    }


def _succeeds(model: OpenSoraModel, data: Rollouts, one: Rollout, seed: int, threshold: float) -> bool:
    """Whether the classifier sees success while the recorded actions are imagined."""
    memory = model.begin(torch.from_numpy(data.frames[one.first : one.first + 1]))
    for start in range(0, len(one.actions), model.chunk):
        _, numbers = windows(one, torch.tensor([start]), model.condition_frames, model.chunk)
        imagined = model.imagine(memory, taken(one, numbers), [seed + start * 1000])
        memory = imagined.memory
        counted = min(model.chunk, len(one.actions) - start)
        if (model.success(imagined.frames)[0, :counted] >= threshold).any():
            return True
    return False


def _pictures(frames: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → float32 [B, 3, H, W] in [0, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 255
