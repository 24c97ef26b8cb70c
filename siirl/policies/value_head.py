"""The value head: how much reward the policy will still get, read from one hidden state of its own network.

Policy and value share all but their last layers, as in the actor-critic of Schulman et al. (2017), *Proximal Policy Optimization
Algorithms*, §5, and the gradient of the value loss reaches the shared ones. The last layer starts at zero, so that first values
are 0, and the first gradients of an untrained head do not disturb a trained policy.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from siirl.config.value_head import FILE, PREFIX, WIDTHS, value_head_shapes
from siirl.policies.base import ValueHeadSettings
from siirl.policies.prismatic.writing import write_weights_file

log = logging.getLogger(__name__)

POSITION = "position"
"""In the metadata of `FILE`: `ValueHeadSettings.position`, where the head learned to read."""
SEED = 0
"""Of new heads: all ranks and all copies that act start with the same one."""


class ValueHead(nn.Module):
    """A hidden state [B, H] → values float32 [B, V]; always computes in float32.

    Args:
        hidden_size: H.
        settings: where it reads, and V.
    """

    def __init__(self, hidden_size: int, settings: ValueHeadSettings) -> None:
        super().__init__()
        self.position = settings.position
        first, second = WIDTHS
        self.fc1 = nn.Linear(hidden_size, first)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, settings.outputs)

    def forward(self, state: Tensor) -> Tensor:
        with torch.autocast(state.device.type, enabled=False):
            return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(state.float())))))


def add_value_head(
    network: nn.Module, settings: ValueHeadSettings, hidden_size: int, folder: Path | None = None
) -> None:
    """Give ``network`` a head as its submodule ``value_head``, float32, where its other parameters are: that of ``folder`` if
    one is there, else a new one. All of it is trained, also beside LoRA adapters.

    Raises:
        ValueError: as `check_value_head`.
    """
    with torch.device("meta"):
        head = ValueHead(hidden_size, settings)
    if folder is not None and (folder / FILE).exists():
        check_value_head(settings, hidden_size, folder)
        with _opened(
            folder / FILE
        ) as stored:  # copied: a save into the folder must not pull a mapped file from under them
            values = {name: stored.get_tensor(name).float().clone() for name in stored.keys()}  # noqa: SIM118
        log.info("the value head is that of %s", folder / FILE)
    else:
        values = new_values(hidden_size, settings.outputs)
    device = next(network.parameters()).device
    head.load_state_dict({name.removeprefix(PREFIX): v.to(device) for name, v in values.items()}, assign=True)
    network.value_head = head


def on_host(values: Tensor | None) -> Tensor | None:
    """Values on the CPU, if there are any."""
    return None if values is None else values.cpu()


def new_values(hidden_size: int, outputs: int) -> dict[str, Tensor]:
    """Parameters of a new head, always the same ones: normal with variance 2 / inputs (He et al. 2015), the last layer and all
    biases zero."""
    generator = torch.Generator().manual_seed(SEED)
    values = {name: torch.zeros(shape) for name, shape in value_head_shapes(hidden_size, outputs).items()}
    for name in (f"{PREFIX}fc1.weight", f"{PREFIX}fc2.weight"):
        values[name].normal_(std=(2 / values[name].shape[1]) ** 0.5, generator=generator)
    return values


def check_value_head(settings: ValueHeadSettings, hidden_size: int, folder: Path) -> None:
    """Compare the head that lies in a policy folder, if any, with the one that is asked for; reads no values.

    Raises:
        ValueError: the file is damaged, or holds a head of other parameters or for another position.
    """
    file = folder / FILE
    if not file.exists():
        return
    with _opened(file) as stored:
        found = {name: list(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        position = (stored.metadata() or {}).get(POSITION)
    wanted = value_head_shapes(hidden_size, settings.outputs)
    different = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    told = [f"{name} is {found.get(name, 'missing')} instead of {wanted.get(name, 'none')}" for name in different]
    if position != settings.position:
        told.append(f"it reads the state at {position!r} instead of {settings.position!r}")
    if told:
        raise ValueError(
            f"{file} holds another value head than critic.position and algorithm.reward_type ask for: {'; '.join(told)}. Set "
            "these as in the run that trained it, or remove the file to start with a new head."
        )


def save_value_head(network: nn.Module, folder: Path) -> None:
    """Write the head of ``network`` into a policy folder; without one there is none in it afterwards."""
    head = getattr(network, "value_head", None)
    if isinstance(head, ValueHead):
        values = {f"{PREFIX}{name}": tensor.cpu() for name, tensor in head.state_dict().items()}
        write_value_head(values, head.position, folder)
    else:
        (folder / FILE).unlink(missing_ok=True)


def write_value_head(values: dict[str, Tensor], position: str, folder: Path) -> None:
    """Write a head's parameters, under names with `PREFIX`, as `FILE` of a policy folder."""
    write_weights_file(values, folder / FILE, {POSITION: position})


def _opened(file: Path) -> Any:
    """Raises ValueError for a file that is no safetensors file, or was cut short."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{file} is no safetensors file, or cut short ({error}); remove it to start with a new value head."
        ) from error
