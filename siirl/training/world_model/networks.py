"""The three networks fitted on rollouts, in this order: autoencoder, transformer, classifier."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from siirl.envs.world_model.reward_model import RewardModel
from siirl.envs.world_model.sampler import rectified_flow_loss
from siirl.envs.world_model.stdit3 import STDiT3
from siirl.envs.world_model.vae import AutoencoderKL
from siirl.envs.world_model.weights import ActionStatistics
from siirl.training.world_model.fitting import Recipe, fit
from siirl.training.world_model.rollouts import Rollout, Rollouts
from siirl.training.world_model.unfinished import Unfinished

KL_WEIGHT = 1e-6
"""Of the autoencoder's prior, as in latent diffusion (https://arxiv.org/abs/2112.10752)."""
NEARLY = 2
"""Frames before success that are neither success nor none: they look alike, and nobody learns from them."""
ENCODED_AT_ONCE = 32


def fit_autoencoder(
    vae: AutoencoderKL,
    data: Rollouts,
    train: list[Rollout],
    recipe: Recipe,
    generator: torch.Generator,
    unfinished: Unfinished,
) -> float:
    """Fit the autoencoder to single frames; its scaling then gives latents unit variance. Returns the last loss."""
    rows, device = data.rows(train), vae.quant_conv.weight.device

    def loss() -> Tensor:
        pixels = data.pixels(_draw(rows, recipe.batch_size, generator)).to(device)
        mean, log_variance = vae.posterior(pixels)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        latents = mean + (0.5 * log_variance).exp() * noise
        shown = vae.decode(latents * vae.config.scaling_factor)
        prior = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        return F.l1_loss(shown, pixels) + F.mse_loss(shown, pixels) + KL_WEIGHT * prior

    last = fit("autoencoder", vae, recipe, loss, generator, unfinished)
    with torch.no_grad():
        sample = data.pixels(_draw(rows, min(256, len(rows)), generator)).to(device)
        spread = torch.cat([vae.posterior(some)[0] for some in sample.split(ENCODED_AT_ONCE)]).std()
    vae.config = replace(vae.config, scaling_factor=float(1 / spread))
    return last


@torch.no_grad()
def encode_all(vae: AutoencoderKL, data: Rollouts) -> Tensor:
    """Latents of every frame, float32 [N, C, H', W'], on the host."""
    device = vae.quant_conv.weight.device
    parts = torch.arange(len(data.frames)).split(ENCODED_AT_ONCE)
    return torch.cat([vae.encode(data.pixels(rows).to(device)).cpu() for rows in parts])


def windows(episode: Rollout, start: Tensor, condition: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Numbers of the frames of windows, int64 [B, condition + chunk], and of the actions that lead to the last ``chunk`` of them,
    int64 [B, chunk], where −1 stands for keeping still.

    ``start`` int64 [B] is the last condition frame. Before an episode its first frame is repeated, behind it its last one.
    """
    frames = start[:, None] + torch.arange(1 - condition, chunk + 1)
    actions = start[:, None] + torch.arange(chunk)
    still = actions >= len(episode.actions)
    return episode.first + frames.clamp(0, episode.length - 1), actions.masked_fill(still, -1)


def taken(episode: Rollout, numbers: Tensor) -> np.ndarray:
    """The actions of `windows`, float32 [B, chunk, 7]; keeping still leaves the gripper as it last was."""
    still = np.concatenate([np.zeros(episode.actions.shape[1] - 1, np.float32), episode.actions[-1:, -1]])
    return np.concatenate([episode.actions, still[None]])[numbers.numpy()]


def fit_transformer(
    model: STDiT3,
    latents: Tensor,
    train: list[Rollout],
    statistics: ActionStatistics,
    sizes: tuple[int, int],
    recipe: Recipe,
    generator: torch.Generator,
    unfinished: Unfinished,
) -> float:
    """Fit the transformer to windows of ``latents`` (of `encode_all`). Returns the last loss.

    Args:
        sizes: actions per chunk, and side of the frames in pixels.
    """
    chunk, side = sizes
    condition, device = model.config.pad_action_num, model.x_embedder.proj.weight.device
    weights = torch.tensor([float(len(one.actions)) for one in train])

    def loss() -> Tensor:
        chosen = torch.multinomial(weights, recipe.batch_size, replacement=True, generator=generator)
        rows, actions = [], []
        for number in chosen.tolist():
            start = torch.randint(len(train[number].actions), (1,), generator=generator)
            frames, led_by = windows(train[number], start, condition, chunk)
            rows.append(frames)
            actions.append(taken(train[number], led_by))
        batch = latents[torch.cat(rows)].transpose(1, 2).to(device)
        wanted = torch.from_numpy(statistics.normalise(np.concatenate(actions))).to(device)
        return rectified_flow_loss(model, batch, wanted, condition, side, generator)

    return fit("transformer", model, recipe, loss, generator, unfinished)


def labelled(episodes: list[Rollout]) -> tuple[Tensor, Tensor]:
    """Numbers of the frames that show success, and of those that do not, int64; those just before success are left out."""
    positive = [one.first + one.length - 1 for one in episodes if one.success]
    negative = [
        torch.arange(one.first, one.first + one.length - (1 + NEARLY if one.success else 0)) for one in episodes
    ]
    return torch.tensor(positive, dtype=torch.int64), torch.cat(negative)


def check_labels(train: list[Rollout]) -> None:
    """Raises ValueError when a classifier could not learn from the rollouts: none succeeded, or no frame shows anything else."""
    if not all(map(len, labelled(train))):
        raise ValueError(
            "a classifier needs frames with and without success, and no rollout of the training trials succeeded; collect "
            "some of the expert"
        )


def fit_classifier(
    model: RewardModel,
    vae: AutoencoderKL,
    data: Rollouts,
    latents: Tensor,
    train: list[Rollout],
    recipe: Recipe,
    generator: torch.Generator,
    unfinished: Unfinished,
) -> float:
    """Fit the classifier to as many frames with success as without, half of them seen through the autoencoder, as imagined ones
    will be. Returns the last loss."""
    kinds = labelled(train)
    half, device = max(1, recipe.batch_size // 2), next(model.parameters()).device
    labels = torch.cat([torch.ones(half), torch.zeros(half)]).to(device)

    def loss() -> Tensor:
        rows = torch.cat([_draw(kind, half, generator) for kind in kinds])
        shown = data.pixels(rows).to(device)
        through = torch.rand(len(rows), generator=generator) < 0.5
        if through.any():
            with torch.no_grad():
                shown[through.to(device)] = vae.decode(latents[rows[through]].to(device)).clamp(-1, 1).float()
        return F.binary_cross_entropy_with_logits(model.logits(shown), labels)

    return fit("classifier", model, recipe, loss, generator, unfinished)


def _draw(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (count,), generator=generator)]
