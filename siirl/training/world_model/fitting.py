"""What the three trainings share: AdamW with warm-up and cosine, averaged weights, a log, and going on after an interrupt."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from siirl.training.sft import averaged
from siirl.training.world_model.unfinished import Unfinished

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted.

    Attributes:
        steps: optimizer steps; the learning rate falls to 0 over them along a cosine.
        batch_size: examples per step.
        lr: peak learning rate of AdamW, reached after a twentieth of the steps.
        dtype: ``bf16`` computes losses under autocast, from float32 weights; ``fp32`` in float32.
        ema_decay: decay of the averaged weights, which are what is kept.
        grad_clip: largest gradient norm.
        log_every: steps between two lines of the log.
        save_seconds: time after which the state is saved again; it is at the end, too.
    """

    steps: int
    batch_size: int
    lr: float
    dtype: str = "bf16"
    ema_decay: float = 0.998
    grad_clip: float = 1.0
    log_every: int = 100
    save_seconds: float = 300.0

    def decides(self) -> dict[str, float | str]:
        """What the fitted network depends on."""
        return {k: v for k, v in asdict(self).items() if k not in ("log_every", "save_seconds")}

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = max(1, self.steps // 20)
        return self.lr * min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


class Fitting:
    """A network, its optimizer and averaged weights after some steps.

    Attributes:
        name: of the network, in messages and in ``unfinished``.
        losses: of each step so far.
    """

    def __init__(
        self, name: str, model: nn.Module, recipe: Recipe, generator: torch.Generator, unfinished: Unfinished
    ) -> None:
        self.name, self.unfinished = name, unfinished
        self.model, self.recipe, self.generator = model, recipe, generator
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.01)
        self.mean = averaged(model, recipe.ema_decay)
        self.losses: list[float] = []

    def step(self, value: Tensor) -> None:
        """Descend the gradient of a loss.

        Raises:
            FloatingPointError: loss or gradient are not finite. The weights are as before.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(len(self.losses))
        self.optimizer.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        if not (torch.isfinite(value) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"loss or gradient are not finite in step {len(self.losses) + 1} of the {self.name}; lower its learning rate"
            )
        self.optimizer.step()
        self.mean.update_parameters(self.model)
        self.losses.append(value.item())

    def save(self) -> None:
        """All that the next steps depend on."""
        state = {part: getattr(self, part).state_dict() for part in ("model", "optimizer", "mean")}
        drawn = {"losses": self.losses, "generator": self.generator.get_state()}
        self.unfinished.save(self.name, {**state, **drawn, "recipe": self.recipe.decides()})

    def restore(self) -> None:
        """Go to where `save` was, if it ever was by this recipe; what is half done by another one begins anew.

        Raises:
            ValueError: the network is done, by another recipe; others may have learned from it.
        """
        state = self.unfinished.load(self.name)
        if state is None:
            return
        before, wanted = state["recipe"], self.recipe.decides()
        if before != wanted:
            told = ", ".join(f"{key} {before[key]} → {wanted[key]}" for key in wanted if before[key] != wanted[key])
            if len(state["losses"]) == before["steps"]:
                raise ValueError(
                    f"the {self.name} in {self.unfinished.folder} is done, with other options ({told}); give those, or name "
                    "another --out"
                )
            logger.info("%s begins anew: %s", self.name, told)
            return
        for part in ("model", "optimizer", "mean"):
            getattr(self, part).load_state_dict(state[part])
        self.losses = state["losses"]
        self.generator.set_state(state["generator"])
        logger.info("%s goes on after step %d", self.name, len(self.losses))


def fit(
    name: str,
    model: nn.Module,
    recipe: Recipe,
    loss: Callable[[], Tensor],
    generator: torch.Generator,
    unfinished: Unfinished,
) -> float:
    """Minimise ``loss``, which draws a batch with ``generator`` at each call; afterwards ``model`` has the averaged weights.
    Returns the mean loss of the last tenth of the steps.

    A fitting that was interrupted goes on from ``unfinished`` as if it had not been, and one that was done is read from there.

    Raises:
        FloatingPointError: the loss or its gradient is not finite.
        ValueError: it was done by another recipe.
    """
    fitting = Fitting(name, model, recipe, generator, unfinished)
    fitting.restore()
    losses, before, began = fitting.losses, len(fitting.losses), time.monotonic()
    saved, kind = began, next(model.parameters()).device.type
    model.train()
    for step in range(before + 1, recipe.steps + 1):
        with torch.autocast(kind, torch.bfloat16, enabled=recipe.dtype == "bf16"):
            value = loss()
        fitting.step(value)
        now = time.monotonic()
        if step % recipe.log_every == 0 or step == recipe.steps:
            recent, rate = losses[-recipe.log_every :], (step - before) / (now - began)
            logger.info("%s step=%d loss=%.5f steps_per_second=%.2f", name, step, sum(recent) / len(recent), rate)
        if step == recipe.steps or now - saved > recipe.save_seconds:
            fitting.save()
            saved = now
    model.load_state_dict(fitting.mean.module.state_dict())
    model.eval()
    last = losses[-max(1, recipe.steps // 10) :]
    return sum(last) / len(last)
