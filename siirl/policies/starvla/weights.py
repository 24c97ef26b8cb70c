"""Weights of StarVLA's checkpoints, under names from before and after transformers 4.52 renamed Qwen2.5-VL's parameters."""

import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from siirl.policies.base import StoredTensor
from siirl.policies.prismatic.loading import compare
from siirl.policies.starvla.folder import PolicyFolder
from siirl.policies.starvla.network import StarVLANetwork

RENAMED = (
    (re.compile(r"^qwen_vl_interface\.model\.visual\."), "qwen_vl_interface.model.model.visual."),
    (
        re.compile(r"^qwen_vl_interface\.model\.model\.(?=(embed_tokens|layers|norm)\.)"),
        "qwen_vl_interface.model.model.language_model.",
    ),
)
"""Names before transformers 4.52, and what they became."""
HEAD = "qwen_vl_interface.model.lm_head.weight"
WRAPPED = "module."  # torch's DistributedDataParallel puts it before the names of what it trained


def present_name(name: str) -> str:
    """A parameter's name as of now."""
    name = name.removeprefix(WRAPPED)
    for old, new in RENAMED:
        name = old.sub(new, name)
    return name


def stored_tensors(folder: PolicyFolder) -> Iterator[StoredTensor]:
    """Name of now, shape, and what reads the values, of every stored tensor. Nothing but tensors is ever unpickled.

    Raises:
        ValueError: a file is damaged, or holds something else.
    """
    for file in folder.weights():
        if file.suffix == ".pt":
            for name, tensor in _read_pickle(file).items():
                yield present_name(name), list(tensor.shape), partial(_as_it_is, tensor)
            continue
        with _opened(file) as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118  (not a dict)
        for name, shape in shapes.items():
            yield present_name(name), shape, partial(_read_one, file, name)


def check_weights(network: StarVLANetwork, folder: PolicyFolder) -> None:
    """Compare names and shapes of a folder's parameters with those of a network on ``meta``.

    Raises:
        ValueError: parameters are missing, surplus, of another shape or there twice, and the first few are named.
    """
    compare(_expected(network), _stored_shapes(network, stored_tensors(folder)), str(folder.path), folder.source.name)


def load_weights(
    network: StarVLANetwork, folder: PolicyFolder, device: torch.device, half: Collection[str] = ()
) -> None:
    """Give a network built on ``meta`` its parameters, on ``device``: bf16 those that ``half`` names, float32 the others.
    Raises ValueError as `check_weights`. Besides the parameters, memory holds one tensor at a time."""
    stored, expected = list(stored_tensors(folder)), _expected(network)
    compare(expected, _stored_shapes(network, stored), str(folder.path), folder.source.name)
    values: dict[str, Tensor] = {}
    for name, shape, read in stored:
        if name in expected:
            dtype = torch.bfloat16 if name in half else torch.float32
            values[name] = torch.empty(shape, dtype=dtype, device=device).copy_(read())
    network.load_state_dict(values, strict=False, assign=True)
    network.restore(device)


def _expected(network: StarVLANetwork) -> dict[str, list[int]]:
    """Without the output head where it is the embedding of words: then it may be stored, or not."""
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if not (network.tied and name == HEAD)}


def _stored_shapes(network: StarVLANetwork, stored: Any) -> list[tuple[str, list[int]]]:
    return [(name, shape) for name, shape, _ in stored if not (network.tied and name == HEAD)]


def _read_pickle(file: Path) -> Mapping[str, Tensor]:
    """A state dict of tensors alone, mapped where the format allows."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{file} holds no plain tensors, or was cut short ({reason}); download it again. Nothing else is unpickled."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} does not map names to tensors, as a state dict does; download it again.")
    return content


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _read_one(file: Path, name: str) -> Tensor:
    """Mapped anew for each, because pages once read stay in memory while a file is mapped."""
    with _opened(file) as tensors:
        tensor = tensors.get_tensor(name)
    assert isinstance(tensor, Tensor)
    return tensor


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or cut short ({error}); download it again.") from error
