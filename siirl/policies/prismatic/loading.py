"""Checkpoint folders in Hugging Face layout: reading with strict checks, and writing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "preprocessor_config.json")
CONFIG_KEYS = (
    "text_config",
    "image_sizes",
    "use_fused_vision_backbone",
    "n_action_bins",
    "pad_to_multiple_of",
    "pad_token_id",
)
FIX = "Set actor_rollout_ref.model.path to a complete policy folder."


@dataclass
class Checkpoint:
    """A policy folder without its weights.

    Attributes:
        config: ``config.json``.
        statistics: ``dataset_statistics.json``, or ``norm_stats`` of the config: entry → action (and proprio) quantiles.
        tokenizer: ``tokenizer.json``; None only for a network that never sees text.
        side_files: the text of files that are carried along unchanged, by name.
    """

    config: dict[str, Any]
    statistics: dict[str, Any] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    side_files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint":
        """Read everything but the weights. Raises ValueError for a missing file or a config of another kind of model."""
        config = json.loads(_existing(folder / "config.json").read_text())
        if absent := [key for key in CONFIG_KEYS if key not in config]:
            raise ValueError(f"{folder / 'config.json'} is not an OpenVLA config, it lacks: {', '.join(absent)}. {FIX}")
        if "norm_stats" in config and not (folder / "dataset_statistics.json").exists():
            statistics = config["norm_stats"]
        else:
            statistics = json.loads(_existing(folder / "dataset_statistics.json").read_text())
        tokenizer = Tokenizer.from_file(str(_existing(folder / "tokenizer.json")))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        side_files = {name: (folder / name).read_text() for name in SIDE_FILES if (folder / name).exists()}
        return cls(config, statistics, tokenizer, side_files)

    def write(self, folder: Path, model: nn.Module) -> None:
        """Write the folder with the model's weights; it reads back bit for bit."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2))
        (folder / "dataset_statistics.json").write_text(json.dumps(self.statistics, indent=2))
        if self.tokenizer is not None:
            self.tokenizer.save(str(folder / "tokenizer.json"))
        for name, text in self.side_files.items():
            (folder / name).write_text(text)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    @property
    def pixel_statistics(self) -> list[tuple[list[float], list[float]]] | None:
        """Per backbone, mean and deviation of the pixels, when ``preprocessor_config.json`` states them."""
        preprocessor = json.loads(self.side_files.get("preprocessor_config.json", "{}"))
        if "means" not in preprocessor:
            return None
        return list(zip(preprocessor["means"], preprocessor["stds"], strict=True))


def load_weights(model: nn.Module, folder: Path, device: torch.device) -> None:
    """Give a model built on ``meta`` its parameters, float32 on ``device``.

    Raises:
        ValueError: parameters are missing, surplus or of another shape; the first few are named.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found: dict[str, Tensor] = {}
    misshaped, surplus = [], []
    for name, tensor in _stored_tensors(folder):
        if name not in expected:
            surplus.append(name)
        elif tuple(tensor.shape) != expected[name]:
            misshaped.append(f"{name} is {list(tensor.shape)} instead of {list(expected[name])}")
        else:
            found[name] = tensor.to(device, torch.float32)
    wrong_shape = {text.split(" ")[0] for text in misshaped}
    missing = [name for name in expected if name not in found and name not in wrong_shape]
    problems = {"missing": missing, "surplus": surplus, "mis-shaped": misshaped}
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise ValueError(
            f"the weights in {folder} do not fit its config.json: parameters {told}. "
            "Use the config.json that the weights were saved with, and the matching embodied_type."
        )
    model.load_state_dict(found, assign=True)


def weight_files(folder: Path) -> list[Path]:
    """``model.safetensors``, or the shards that the index lists. Raises ValueError for a missing one."""
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if index.exists():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return [_existing(folder / shard) for shard in shards]


def _stored_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the folder's weights."""
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a dict)
                yield name, tensors.get_tensor(name)


def _existing(file: Path) -> Path:
    if not file.exists():
        raise ValueError(f"the policy folder {str(file.parent)!r} has no {file.name}. {FIX}")
    return file


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
