"""LoRA (Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*), with the layers of the package peft.

A frozen linear layer W [out, in] acts as W + (alpha / rank) · B A, and only A [rank, in] and B [out, rank] are trained.
B starts at zero, so a new adapter changes nothing.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from siirl.config.lora import INSTALL_HINT, RANK, TARGETS, adaptable, adapted
from siirl.config.schema import ModelConfig
from siirl.config.value_head import BESIDE
from siirl.registry import did_you_mean

ADAPTER = "default"  # the name that peft gives to an adapter by itself


def layers_to_adapt(network: nn.Module, model: ModelConfig) -> list[str]:
    """Full names of the linear layers that ``model.target_modules`` means; none with ``lora_rank`` 0.

    Raises:
        ValueError: a name is the end of no linear layer's name.
    """
    if model.lora_rank == 0:
        return []
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if unknown := [target for target in model.target_modules if not adapted(linear, [target])]:
        known = sorted({name.rpartition(".")[2] for name in adaptable(linear)})
        raise ValueError(
            f"{TARGETS} names {', '.join(map(repr, unknown))}, the end of no name of a linear layer that can take an adapter; "
            f"allowed: all-linear, or ends of their names: {', '.join(known)}.{did_you_mean(unknown[0], known)}"
        )
    return adapted(linear, model.target_modules)


def add_adapters(network: nn.Module, model: ModelConfig) -> None:
    """Freeze ``network``, in place, and give it adapters, float32; with ``lora_rank`` 0 it is left as it is.

    A is drawn from PyTorch's global generator, and rounded to bf16 where the layer rests in it; B is zero.

    Raises:
        ValueError: as `layers_to_adapt`, or peft is missing.
    """
    if layers := layers_to_adapt(network, model):
        peft().inject_adapter_in_model(lora_config(model, layers), network, ADAPTER)
        for parameter in network.parameters():
            if parameter.requires_grad:  # of an adapter; peft gives it the dtype of its layer
                parameter.data = parameter.data.float()


def lora_config(model: ModelConfig, layers: Sequence[str]) -> Any:
    """peft's ``LoraConfig`` of adapters on ``layers``, full names. Raises ValueError when peft is missing."""
    return peft().LoraConfig(r=model.lora_rank, lora_alpha=model.lora_alpha, target_modules=list(layers))


def peft() -> ModuleType:
    """The package, imported here because runs without adapters need not have it. Raises ValueError when it is missing."""
    try:
        import peft as package
    except ImportError as error:
        raise ValueError(f"{RANK} > 0 needs the package peft ({error}); {INSTALL_HINT}, or set {RANK}=0") from error
    return package


def factor_names(layer: str) -> tuple[str, str]:
    """Names of A and B among the parameters of a network with adapters."""
    return f"{layer}.lora_A.{ADAPTER}.weight", f"{layer}.lora_B.{ADAPTER}.weight"


def merge(weight: Tensor, a: Tensor, b: Tensor, model: ModelConfig) -> Tensor:
    """The weight [out, in] that acts alone as ``weight`` does with the adapter of ``a`` [rank, in] and ``b`` [out, rank]."""
    return weight + (b @ a) * (model.lora_alpha / model.lora_rank)


@torch.no_grad()
def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network under its published names, without a value head and the spread of its actions, adapters merged
    into the weights that they adapt."""
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(BESIDE)}
    merged = {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
    for name, module in network.named_modules():
        if hasattr(module, "lora_A"):
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + module.get_delta_weight(ADAPTER)
    return merged
