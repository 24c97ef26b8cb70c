"""Host memory as the resting place of parameters, gradients and optimizer state between their uses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from siirl.config.schema import FSDPConfig

HOST = torch.device("cpu")


class Offload:
    """Moves what the config names between the accelerator and host memory; on the CPU every move is a no-op.

    Args:
        device: where the update computes.
    """

    def __init__(self, config: FSDPConfig, model: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self.config = config
        self.model = model
        self.optimizer = optimizer
        self.device = device
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._rest()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Parameters and optimizer state are on the device inside, and back in host memory afterwards."""
        if self.config.param_offload:
            self.model.to(self.device)
        if self.config.optimizer_offload:
            self._move_optimizer(self.device)
        try:
            yield
        finally:
            self._rest()

    def take_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """After each backward pass: add the gradients to those in host memory and free them on the device."""
        if not self.config.grad_offload:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                gradient = parameter.grad.to(HOST)
                taken = self._gradients.get(parameter)
                self._gradients[parameter] = gradient if taken is None else taken + gradient
                parameter.grad = None

    def give_gradients(self) -> None:
        """Before the optimizer step: put the summed gradients back where the parameters are."""
        for parameter, gradient in self._gradients.items():
            parameter.grad = gradient.to(self.device)
        self._gradients.clear()

    def _rest(self) -> None:
        if self.config.param_offload:
            self.model.to(HOST)
        if self.config.optimizer_offload:
            self._move_optimizer(HOST)

    def _move_optimizer(self, device: torch.device) -> None:
        for state in self.optimizer.state.values():
            for name, tensor in state.items():
                if name != "step":  # a single number
                    state[name] = tensor.to(device)
