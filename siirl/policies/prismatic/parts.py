"""Parts of OpenVLA-OFT that are published beside the merged weights, each in a file of its own.

They are called ``<part>--<step>_checkpoint.pt`` (Kim, Finn, Liang 2025); the config says nothing of them, so that a file is
there is what tells. RL systems publish checkpoints with action tokens and a ``proprio_projector`` alone in the same way.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

ACTION_HEAD, PROPRIO_PROJECTOR = "action_head", "proprio_projector"
PARTS = (ACTION_HEAD, PROPRIO_PROJECTOR)
SUFFIXES = (".pt", ".safetensors")
PROPRIO_DIM = 8  # of the published LIBERO projectors, whose config does not state it
DDP = "module."  # torch's DistributedDataParallel puts it before the names of what it trained
VARIANTS = {
    "vision_backbone": "modulates its vision backbone by the instruction (FiLM)",
    "noisy_action_projector": "denoises its actions (diffusion)",
}
"""Other parts that the published training writes, and what a checkpoint that has one does."""


def find_parts(folder: Path) -> dict[str, Path]:
    """The files of `PARTS` in a policy folder, by part.

    Raises:
        ValueError: a part has several files, or the folder holds a variant that siirl does not run.
    """
    for name, does in VARIANTS.items():
        if files := _files(folder, name):
            raise unsupported(files[0], does)
    found = {part: _files(folder, part) for part in PARTS}
    for part, files in found.items():
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise ValueError(f"{folder} has {len(files)} files of {part}: {names}. Keep the one that fits the weights.")
    return {part: files[0] for part, files in found.items() if files}


def complete(config: dict[str, Any], parts: dict[str, Path], source: Path) -> dict[str, Any]:
    """``config.json`` (read from ``source``) with what the parts' files imply: that there is a proprioception token, of how
    many values.

    Raises:
        ValueError: the config says ``use_film``, or ``use_proprio`` false although the projector is there.
    """
    if config.get("use_film", False):
        raise unsupported(source, VARIANTS["vision_backbone"])
    if PROPRIO_PROJECTOR not in parts:
        return config
    if not config.get("use_proprio", True):
        raise ValueError(
            f"{source} says use_proprio false, but there is {parts[PROPRIO_PROJECTOR].name}; remove the one that is wrong."
        )
    return {**config, "use_proprio": True, "proprio_dim": config.get("proprio_dim", PROPRIO_DIM)}


def read_part(file: Path) -> dict[str, Tensor]:
    """A part's parameters under their published names, without DDP's prefix; their values are mapped, not read.

    Raises:
        ValueError: the file is cut short or malformed, holds more than tensors (nothing else is ever unpickled), or is a
            diffusion head.
    """
    try:
        content = _load(file)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} holds no plain tensors, or was cut short ({reason}); download it again.") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} does not map names to tensors, as a state dict does; download it again.")
    if content and all(name.startswith(DDP) for name in content):
        content = {name.removeprefix(DDP): tensor for name, tensor in content.items()}
    if any(name.startswith("noise_predictor.") for name in content):
        raise unsupported(file, VARIANTS["noisy_action_projector"])
    return content


def unsupported(source: Path, does: str) -> ValueError:
    """The error for a variant that siirl does not run."""
    return ValueError(
        f"{source}: a checkpoint with this {does}, which siirl does not run; use one with action tokens or an L1 head."
    )


def _files(folder: Path, part: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"{part}--*") if file.suffix in SUFFIXES and file.is_file())


def _load(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
