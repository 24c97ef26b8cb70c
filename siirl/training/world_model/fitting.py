"""What the three trainings share: AdamW with warm-up and cosine, averaged weights, a log."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from siirl.training.sft import averaged

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted.

    Attributes:
        steps: optimizer steps; the learning rate falls to 0 over them along a cosine.
        batch_size: examples per step.
        lr: peak learning rate of AdamW, reached after a twentieth of the steps.
        ema_decay: decay of the averaged weights, which are what is kept.
        grad_clip: largest gradient norm.
        log_every: steps between two lines of the log.
    """

    steps: int
    batch_size: int
    lr: float
    ema_decay: float = 0.998
    grad_clip: float = 1.0
    log_every: int = 100


def fit(name: str, model: nn.Module, recipe: Recipe, loss: Callable[[], Tensor]) -> float:
    """Minimise ``loss``, which draws a batch at each call; afterwards ``model`` has the averaged weights. Returns the mean loss
    of the last tenth of the steps.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.01)
    warm = max(1, recipe.steps // 20)

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    mean, losses, began = averaged(model, recipe.ema_decay), list[float](), time.monotonic()
    model.train()
    for step in range(1, recipe.steps + 1):
        value = loss()
        if not torch.isfinite(value):
            raise FloatingPointError(f"the loss of the {name} is not finite; lower its learning rate")
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        optimizer.step()
        schedule.step()
        mean.update_parameters(model)
        losses.append(value.item())
        if step % recipe.log_every == 0 or step == recipe.steps:
            recent, rate = losses[-recipe.log_every :], step / (time.monotonic() - began)
            logger.info("%s step=%d loss=%.5f steps_per_second=%.2f", name, step, sum(recent) / len(recent), rate)
    model.load_state_dict(mean.module.state_dict())
    model.eval()
    last = losses[-max(1, recipe.steps // 10) :]
    return sum(last) / len(last)
