"""What a checkpoint has trained, under published names: every parameter, or adapters to merge into the start policy's."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from siirl.config.action_noise import PREFIX as NOISE_PREFIX
from siirl.config.schema import ModelConfig
from siirl.config.value_head import PREFIX
from siirl.policies.base import StoredTensor
from siirl.policies.lora import factor_names, merge
from siirl.training.dcp import MODEL, read_tensors, saved_tensors

AGAIN = (
    "a run that goes on removes its older checkpoints (all but trainer.max_actor_ckpt_to_keep): run the command again"
)
BACK = "put the policy folder back as it was, or say with --policy where it is"


@contextmanager
def reading(source: Path, fix: str) -> Iterator[None]:
    """Raises ValueError with the ``fix`` when what the block reads from ``source`` is gone, or cannot be read."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{source} could not be read ({error}); {fix}") from error


@dataclass(frozen=True)
class Parameters:
    """Parameters that are not in memory.

    Attributes:
        tensors: every one by its published name, on ``meta``.
        read: the values of some of them, on the CPU.
    """

    tensors: dict[str, Tensor]
    read: Callable[[Collection[str]], dict[str, Tensor]]

    @property
    def value_head(self) -> dict[str, Tensor]:
        """Those of ``tensors`` that are the value head's."""
        return {name: tensor for name, tensor in self.tensors.items() if name.startswith(PREFIX)}

    @property
    def action_noise(self) -> dict[str, Tensor]:
        """Those of ``tensors`` that are the spread of actions."""
        return {name: tensor for name, tensor in self.tensors.items() if name.startswith(NOISE_PREFIX)}

    @property
    def beside(self) -> dict[str, Tensor]:
        """Those of ``tensors`` that lie in files of their own beside a policy's weights."""
        return self.value_head | self.action_noise


def saved_parameters(checkpoint: Path) -> Parameters:
    """What a checkpoint holds of the model: every parameter, or of a run with LoRA its adapters and what is `Parameters.beside`
    alone. Raises ValueError, also when it is read from later, for a checkpoint that is gone meanwhile."""
    with reading(checkpoint, AGAIN):
        saved = saved_tensors(checkpoint)
    tensors = {name.removeprefix(MODEL): tensor for name, tensor in saved.items() if name.startswith(MODEL)}

    def read(names: Collection[str]) -> dict[str, Tensor]:
        with reading(checkpoint, AGAIN):
            values = read_tensors(checkpoint, {MODEL + name: tensors[name] for name in names})
        return {name: values[MODEL + name] for name in names}

    return Parameters(tensors, read)


def merged_parameters(
    checkpoint: Path, start: Path, model: ModelConfig, stored_tensors: Callable[[Path], Iterator[StoredTensor]]
) -> Parameters:
    """The start policy's parameters, float32, with the adapters of a checkpoint merged in, and what the checkpoint
    has beside them.

    Args:
        stored_tensors: those of ``start``, see `siirl.policies.base.PolicyFactory.stored_tensors`.
    """
    saved = saved_parameters(checkpoint)
    with reading(start, BACK):
        tensors = {name: torch.empty(shape, device="meta") for name, shape, _ in stored_tensors(start)}
    factors = {f"{layer}.weight": factor_names(layer) for layer in adapted_layers(saved)}
    assert factors.keys() <= tensors.keys(), "the start policy is another one"

    def read(names: Collection[str]) -> dict[str, Tensor]:
        with reading(start, BACK):
            values = {name: stored().float() for name, _, stored in stored_tensors(start) if name in names}
        values |= saved.read(saved.beside.keys() & set(names))
        for name in factors.keys() & values.keys():
            a, b = factors[name]
            found = saved.read([a, b])
            values[name] = merge(values[name], found[a], found[b], model)
        return values

    return Parameters(tensors | saved.beside, read)


def adapted_layers(saved: Parameters) -> list[str]:
    """Full names of the layers whose adapters ``saved`` holds."""
    _, ending = factor_names("")
    return [name.removesuffix(ending) for name in saved.tensors if name.endswith(ending)]
