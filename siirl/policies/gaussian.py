"""Continuous actions as a distribution: a diagonal Gaussian around what a network regresses, with a learned spread.

It lives in normalised actions, before they are clipped and un-normalised, so that densities are exact whatever the environment
executes. The spread does not depend on the observation, as in Schulman et al. (2015), *Trust Region Policy Optimization*, §8, and
is its own small part of the network, which policies that were trained without one are given.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from siirl.config.action_noise import FILE, LOG_STD, PREFIX, action_noise_shapes
from siirl.config.schema import ModelConfig
from siirl.policies.base import Evaluation, Sampling
from siirl.policies.prismatic.writing import write_weights_file

log = logging.getLogger(__name__)

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianSettings:
    """The spread that a policy is loaded with, in normalised actions, which span [−1, 1].

    Attributes:
        initial_std: standard deviation of a new one.
        min_std, max_std: bounds of what is used, whatever was learned.
        per_dimension: each dimension of an action has its own; otherwise all share one.
    """

    initial_std: float
    min_std: float
    max_std: float
    per_dimension: bool

    @classmethod
    def of(cls, model: ModelConfig) -> Self:
        """What the config says."""
        noise = model.action_noise
        return cls(noise.initial_std, noise.min_std, noise.max_std, noise.per_dimension)


class _Bounded(torch.autograd.Function):
    """Clamp whose gradient leads back: at or beyond a bound it is 0 only where a step against it would lead (further) out.

    The gradient of `torch.clamp` is 0 beyond a bound whatever its sign, so that a value which one step had carried beyond
    would never come back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high), (gradient,) = ctx.saved_tensors, ctx.bounds, gradients
        leads_out = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))
        return gradient.masked_fill(leads_out, 0.0), None, None


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """``x`` clamped to [low, high], with a gradient that leads back from beyond them (`_Bounded`)."""
    return _Bounded.apply(x, low, high)


class ActionNoise(nn.Module):
    """The learned logarithm of the standard deviation, float32 [D], or [1] shared by all dimensions.

    Call it within the network's own forward: there FSDP has gathered the parameter.
    """

    def __init__(self, settings: GaussianSettings, action_dim: int) -> None:
        super().__init__()
        self.bounds = math.log(settings.min_std), math.log(settings.max_std)
        shape = action_noise_shapes(action_dim, settings.per_dimension)[LOG_STD]
        self.log_std = nn.Parameter(torch.full(shape, math.log(settings.initial_std)))

    def forward(self) -> Tensor:
        """The standard deviation within its bounds, float32 [D] or [1]."""
        return bounded(self.log_std, *self.bounds).exp()


def add_log_std(
    network: nn.Module, settings: GaussianSettings, action_dim: int, folder: Path | None = None
) -> ActionNoise:
    """Give ``network`` its spread as the submodule ``action_noise``, float32, where its other parameters are: that of
    ``folder`` if one is there, else a new one. It is trained, also beside LoRA adapters. Returns it.

    Raises:
        ValueError: as `check_log_std`.
    """
    noise = ActionNoise(settings, action_dim)
    if folder is not None and (folder / FILE).exists():
        check_log_std(settings, action_dim, folder)
        with _opened(folder / FILE) as stored, torch.no_grad():
            noise.log_std.copy_(stored.get_tensor(LOG_STD))
        log.info("the spread of actions is that of %s", folder / FILE)
    network.action_noise = noise.to(next(network.parameters()).device)
    return noise


def check_log_std(settings: GaussianSettings, action_dim: int, folder: Path) -> None:
    """Compare the spread that lies in a policy folder, if any, with the one that is asked for.

    Raises:
        ValueError: the file is damaged, or holds a spread of other dimensions.
    """
    file = folder / FILE
    if not file.exists():
        return
    with _opened(file) as stored:
        found = {name: list(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    wanted = action_noise_shapes(action_dim, settings.per_dimension)
    if found != wanted:
        raise ValueError(
            f"{file} holds {found} instead of {wanted}. Set actor_rollout_ref.model.action_noise.per_dimension as in the run "
            "that trained it, or remove the file to start with a new spread."
        )


def stored_per_dimension(folder: Path) -> bool:
    """Whether the spread that lies in a policy folder is one for each dimension; true where none lies there.

    Raises:
        ValueError: the file is damaged.
    """
    if not (folder / FILE).exists():
        return True
    with _opened(folder / FILE) as stored:
        return list(stored.get_slice(LOG_STD).get_shape()) != [1]


def save_log_std(network: nn.Module, folder: Path) -> None:
    """Write the spread of ``network`` into a policy folder; without one there is none in it afterwards."""
    noise = getattr(network, "action_noise", None)
    if isinstance(noise, ActionNoise):
        write_log_std({f"{PREFIX}{name}": tensor.cpu() for name, tensor in noise.state_dict().items()}, folder)
    else:
        (folder / FILE).unlink(missing_ok=True)


def write_log_std(values: dict[str, Tensor], folder: Path) -> None:
    """Write the spread's parameter, under its name with `PREFIX`, as `FILE` of a policy folder."""
    write_weights_file(values, folder / FILE)


def choose(mean: Tensor, std: Tensor, sampling: Sampling) -> Tensor:
    """What ``sampling`` asks for, float32 [B, T·D]: a draw, or the likeliest action, which is the mean."""
    return draw(mean, std, sampling.seeds, sampling.temperature) if sampling.do_sample else mean.float().flatten(1)


def draw(mean: Tensor, std: Tensor, seeds: Sequence[int], temperature: float) -> Tensor:
    """Draw every element by itself; a row's draw depends on its seed and its own distribution alone.

    Args:
        mean: normalised actions [B, T, D].
        std: [D] or [1].
        seeds: one per row.
        temperature: tempers the density, see `gaussian_evaluation`.

    Returns:
        Normalised actions float32 [B, T·D] on the device of ``mean``, not clipped.
    """
    flat, spread = _flat(mean, std, temperature)
    return flat + spread * normals(seeds, flat.shape[1]).to(flat)


def normals(seeds: Sequence[int], count: int) -> Tensor:
    """Standard normal numbers float64 [B, count] on the CPU; each row comes from its own generator."""
    rows = [torch.randn(count, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
    return torch.stack(rows)


def gaussian_evaluation(
    mean: Tensor, std: Tensor, sampled: Tensor, temperature: float, values: Tensor | None = None
) -> Evaluation:
    """Log-density and entropy of every element, with gradient, exact for what was drawn before any clipping.

    A temperature T tempers the density as it tempers a softmax: p(x)^(1/T), normalised, which is the Gaussian of standard
    deviation ``std``·√T. Log-densities may be positive. What is not finite in ``mean`` makes NaN log-densities.

    Args:
        mean: normalised actions [B, T, D], with gradient.
        std: [D] or [1], with gradient.
        sampled: normalised actions [B, T·D], as `draw` gave them.
        values: what the value head says, [B, V], passed on.
    """
    flat, spread = _flat(mean, std, temperature)
    distance = (sampled.to(flat) - flat) / spread
    log_spread = spread.log()
    return Evaluation(
        log_probs=-0.5 * distance * distance - log_spread - HALF_LOG_2PI,
        entropy=(log_spread + 0.5 + HALF_LOG_2PI).expand_as(flat),
        values=values,
    )


def _flat(mean: Tensor, std: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Means float32 [B, T·D] and tempered standard deviations float32 [T·D]."""
    spread = (std.float() * math.sqrt(temperature)).expand(mean.shape[1:]).flatten()
    return mean.float().flatten(1), spread


def _opened(file: Path) -> Any:
    """Raises ValueError for a file that is no safetensors file, or was cut short."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{file} is no safetensors file, or cut short ({error}); remove it to start with a new spread of actions."
        ) from error
