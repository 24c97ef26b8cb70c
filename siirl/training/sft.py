"""Supervised fine-tuning: a policy learns to predict the actions of demonstrations.

The recipe is that of small behaviour-cloning transformers: AdamW with a cosine schedule, image shifts and colour jitter, and an
exponential moving average of the weights, which is what is kept. What is learned is a `siirl.training.lessons.Lesson`.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from siirl.policies.base import PolicyInputs
from siirl.training.lessons import Lesson
from siirl.training.samples import Samples

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SFTConfig:
    """The recipe.

    Attributes:
        steps: optimizer steps; the learning rate falls to 0 over them along a cosine.
        batch_size: samples (one image and the chunk of actions from it) per step.
        lr: peak learning rate of AdamW.
        warmup_steps: steps over which the learning rate rises linearly.
        weight_decay: decoupled, on matrices only.
        grad_clip: largest gradient norm.
        label_sigma: standard deviation of the soft labels of action tokens, in bins.
        max_shift: largest shift of an image, pixels, in each direction.
        ema_decay: decay of the averaged weights; ramped up from 0, so that a short run forgets its start.
        holdout: fraction of the trials (the last ones) that only measure.
        log_every: steps between two measurements on the held-out trials.
        seed: draws batches and augmentation.
        frame_every: steps of a demonstration between two frames that become samples.
    """

    steps: int = 2400
    batch_size: int = 32
    lr: float = 1e-3
    warmup_steps: int = 150
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    label_sigma: float = 2.0
    max_shift: int = 4
    ema_decay: float = 0.998
    holdout: float = 0.05
    log_every: int = 500
    seed: int = 0
    frame_every: int = 3


def augment(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Shift each row's views by up to ``max_shift`` pixels (edges repeat) and jitter contrast, brightness and colour.

    Args:
        images: uint8 [B, V, S, S, 3].

    Returns:
        uint8 [B, V, S, S, 3].
    """
    batch, _, size, _, _ = images.shape
    shift = torch.randint(-max_shift, max_shift + 1, (2, batch, 1), generator=generator)
    y, x = (torch.arange(size) + shift).clamp(0, size - 1)
    rows = torch.arange(batch)[:, None, None]
    shifted = images[rows, :, y[:, :, None], x[:, None, :]].movedim(3, 1).float()

    def noise(scale: float, channels: int = 1) -> Tensor:
        return scale * torch.randn(batch, 1, 1, 1, channels, generator=generator)

    jittered = (shifted - 127.5) * (1 + noise(0.15)) + 127.5 * (1 + noise(0.1) + noise(0.05, 3))
    return jittered.round().clamp(0, 255).to(torch.uint8)


def make_optimizer(model: nn.Module, config: SFTConfig) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW that decays matrices only, and its warm-up and cosine schedule."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / config.warmup_steps)
        return warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / config.steps)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of ``model``'s weights, whose decay rises from 0 to ``decay``."""

    def average(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        if not mean.is_floating_point():  # a counter, as batch normalisation has
            return new
        return torch.lerp(new, mean, min(decay, (int(count) + 1) / (int(count) + 20)))

    return AveragedModel(model, avg_fn=average, use_buffers=True)


@contextmanager
def weights_of(source: nn.Module, model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` has the weights of ``source``; afterwards its own again."""
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(source.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)


@torch.no_grad()
def measure(lesson: Lesson, samples: Samples, index: Tensor) -> tuple[float, list[float]]:
    """Mean of the loss, and the mean distance from the label for each action dimension."""
    found = [lesson.errors(*samples.rows(rows)) for rows in index.split(64)]
    losses, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
    per_dimension = distances.view(len(index) * lesson.policy.chunk_len, -1).mean(0)
    return float(losses.mean()), [float(f"{x:.3g}") for x in per_dimension.tolist()]


def split(trials: np.ndarray, holdout: float) -> tuple[Tensor, Tensor]:
    """Row numbers of the training trials and of the last ``holdout`` (a fraction, at least one trial), int64.

    Raises:
        ValueError: fewer than two trials.
    """
    unique = np.unique(trials)
    if len(unique) < 2:
        raise ValueError(f"demonstrations of {len(unique)} trial were given; at least 2 are needed, to hold one out")
    held = unique[-max(1, round(holdout * len(unique))) :]
    is_held = torch.from_numpy(np.isin(trials, held))
    return torch.nonzero(~is_held)[:, 0], torch.nonzero(is_held)[:, 0]


def train_step(
    lesson: Lesson,
    batch: tuple[PolicyInputs, Tensor],
    optimizer: torch.optim.Optimizer,
    config: SFTConfig,
    generator: torch.Generator,
) -> float:
    """One optimizer step on inputs and labels of B rows; returns the loss before it."""
    inputs, labels = batch
    images = augment(inputs["images"], config.max_shift, generator)
    loss = lesson.loss({**inputs, "images": images}, labels)
    if not torch.isfinite(loss):
        raise FloatingPointError("the fine-tuning loss is not finite; lower the learning rate")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(lesson.policy.model.parameters(), config.grad_clip)
    optimizer.step()
    return loss.item()


def train(lesson: Lesson, samples: Samples, config: SFTConfig) -> list[dict[str, object]]:
    """Fit ``lesson.policy.model`` in place; afterwards it holds the averaged weights.

    Returns:
        One record per measurement: step, loss (mean of the training loss since the last one), and on the held-out
        trials heldout_loss and, named by `Lesson.distance`, heldout_bins or heldout_l1 (see `measure`).

    Raises:
        ValueError: the trials are too few to hold some out.
        FloatingPointError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(config.seed)
    train_rows, heldout_rows = split(samples.trials, config.holdout)
    optimizer, schedule = make_optimizer(lesson.policy.model, config)
    model = lesson.policy.model
    mean = averaged(model, config.ema_decay)
    history: list[dict[str, object]] = []
    losses: list[float] = []
    started = time.monotonic()
    for step in range(1, config.steps + 1):
        batch = train_rows[torch.randint(len(train_rows), (config.batch_size,), generator=generator)]
        losses.append(train_step(lesson, samples.rows(batch), optimizer, config, generator))
        schedule.step()
        mean.update_parameters(model)
        if step % config.log_every == 0 or step == config.steps:
            with weights_of(mean.module, model):
                heldout_loss, distances = measure(lesson, samples, heldout_rows)
            record = {
                "step": step,
                "loss": float(np.mean(losses)),
                "heldout_loss": heldout_loss,
                lesson.distance: distances,
            }
            rate = step * config.batch_size / (time.monotonic() - started)
            logger.info("%s samples_per_second=%.0f", " ".join(f"{k}={v}" for k, v in record.items()), rate)
            history.append(record)
            losses.clear()
    model.load_state_dict(mean.module.state_dict())
    return history
