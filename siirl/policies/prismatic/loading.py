"""Checkpoint folders in Hugging Face layout: reading with strict checks, and writing."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn

from siirl.policies.base import stated_type
from siirl.policies.lora import merged_state
from siirl.policies.prismatic.actions import LIMITS, NORMALIZATION
from siirl.policies.prismatic.parts import PARTS, complete, find_parts, read_part
from siirl.policies.prismatic.writing import INDEX, SHARD_BYTES, write_weights
from siirl.policies.value_head import save_value_head

SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "preprocessor_config.json")
CONFIG_KEYS = (
    "text_config",
    "image_sizes",
    "use_fused_vision_backbone",
    "n_action_bins",
    "pad_to_multiple_of",
    "pad_token_id",
)
FIX = "Name a complete policy folder, with actor_rollout_ref.model.path in a run, with path in load_policy."


@dataclass
class Checkpoint:
    """A policy folder without its weights.

    Attributes:
        config: ``config.json``, with what the parts' files imply.
        statistics: ``dataset_statistics.json``, or the config's ``norm_stats``: entry → action (and proprio) quantiles.
        tokenizer: ``tokenizer.json``; None only for a network that never sees text.
        side_files: the text of files that are carried along unchanged, by name.
        parts: files of parameters beside the merged weights, see `siirl.policies.prismatic.parts`.
    """

    config: dict[str, Any]
    statistics: dict[str, Any] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    side_files: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint":
        """Read everything but the weights.

        Raises:
            ValueError: a file is missing or malformed, or the config or a part is of another kind of model.
        """
        file = folder / "config.json"
        config = read_json(file)
        check_config(config, file)
        parts = find_parts(folder)
        statistics = folder / "dataset_statistics.json"
        if "norm_stats" in config and not statistics.exists():
            entries = _checked_statistics(config["norm_stats"], f"norm_stats of {file}")
        else:
            entries = _checked_statistics(read_json(statistics), str(statistics))
        side_files = {name: _read_text(folder / name) for name in SIDE_FILES if (folder / name).exists()}
        preprocessor = folder / "preprocessor_config.json"
        if preprocessor.exists() and len({"means", "stds"} & read_json(preprocessor).keys()) == 1:
            raise ValueError(f"{preprocessor} has only one of 'means' and 'stds'. {FIX}")
        tokenizer = _read_tokenizer(folder / "tokenizer.json")
        _check_vocabulary(config, tokenizer, file)
        return cls(complete(config, parts, file), entries, tokenizer, side_files, parts)

    def write(self, folder: Path, model: nn.Module, shard_bytes: int = SHARD_BYTES) -> None:
        """Write the folder with the model's weights, adapters merged in; without adapters it reads back bit for bit."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2))
        (folder / "dataset_statistics.json").write_text(json.dumps(self.statistics, indent=2))
        if self.tokenizer is not None:
            self.tokenizer.save(str(folder / "tokenizer.json"))
        for name, text in self.side_files.items():
            (folder / name).write_text(text)
        weights = merged_state(model)

        def read(names: Collection[str]) -> dict[str, Tensor]:
            return {name: weights[name].detach().cpu().contiguous() for name in names}

        write_weights(weights, read, folder, shard_bytes)
        save_value_head(model, folder)

    @property
    def pixel_statistics(self) -> list[tuple[list[float], list[float]]] | None:
        """Per backbone, mean and deviation of the pixels, when ``preprocessor_config.json`` states them."""
        preprocessor = json.loads(self.side_files.get("preprocessor_config.json", "{}"))
        if "means" not in preprocessor:
            return None
        return list(zip(preprocessor["means"], preprocessor["stds"], strict=True))


def check_config(config: dict[str, Any], file: Path) -> None:
    """Raises ValueError for a ``config.json`` of another kind of model, or of no policy that there is."""
    stated_type(config, file)
    if absent := [key for key in CONFIG_KEYS if key not in config]:
        raise ValueError(f"{file} is not an OpenVLA config, it lacks: {', '.join(absent)}. {FIX}")
    ids = [] if "timm_model_args" in config else config.get("timm_model_ids", [])
    if unknown := [name for name in ids if not timm.is_model(name)]:
        raise ValueError(
            f"{file}: timm_model_ids names {', '.join(map(repr, unknown))}, which timm {timm.__version__} does not have. {FIX}"
        )
    if (kind := config.get(NORMALIZATION, next(iter(LIMITS)))) not in LIMITS:
        raise ValueError(f"{file}: {NORMALIZATION} is {kind!r}; allowed: {', '.join(LIMITS)}.")


def _check_vocabulary(config: dict[str, Any], tokenizer: Tokenizer, file: Path) -> None:
    """Action tokens lie right before the padding of the vocabulary: without padding they would all be shifted, silently."""
    size, padding = config["text_config"].get("vocab_size", 0), config["pad_to_multiple_of"]
    tokens = tokenizer.get_vocab_size(with_added_tokens=False)
    if size % padding or size - padding < tokens:
        raise ValueError(
            f"{file}: text_config.vocab_size is {size}; it must be a multiple of pad_to_multiple_of, {padding}, and hold the "
            f"tokenizer's {tokens} tokens and {padding} more. {FIX}"
        )


def load_weights(model: nn.Module, folder: Path, device: torch.device, half: Collection[str] = ()) -> None:
    """Give a model built on ``meta`` its parameters, on ``device``: bf16 those that ``half`` names, float32 the others.
    Raises ValueError as `check_weights`.

    Besides the parameters, memory holds one tensor at a time: they go straight to their own place, and a file is mapped anew for
    each, because pages once read stay in memory while it is mapped. Nothing refers to the files afterwards.
    """
    check_weights(model, folder)
    weights: dict[str, Tensor] = {}

    def take(name: str, tensor: Tensor) -> None:
        weights[name] = _unmapped(tensor, device, torch.bfloat16 if name in half else torch.float32)

    for file in weight_files(folder):
        with _opened(file) as stored:
            names = list(stored.keys())
        for name in names:
            with _opened(file) as stored:
                take(name, stored.get_tensor(name))
    for part, file in _parts_of(model, folder).items():
        for name, tensor in read_part(file).items():
            take(f"{part}.{name}", tensor)
    model.load_state_dict(weights, assign=True)


def _unmapped(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy on ``device`` that does not refer to the file which ``tensor`` is mapped from."""
    tensor = tensor.to(device)
    return torch.empty_like(tensor, dtype=dtype).copy_(tensor)


def check_weights(model: nn.Module, folder: Path) -> None:
    """Compare the names and shapes of a folder's parameters with those of a model built on ``meta``; reads no weights.

    Raises:
        ValueError: a file is missing, cut short or malformed; parameters are missing, surplus, of another shape or in two
            files, and the first few are named.
    """
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = [(name, shape) for name, shape, _ in stored_tensors(folder, _parts_of(model, folder))]
    beside = "".join(f" and {file.name}" for file in _parts_of(model, folder).values())
    compare(expected, stored, f"{folder}{beside}", "config.json")


def compare(
    expected: Mapping[str, list[int]], stored: Iterable[tuple[str, list[int]]], source: str, config: str
) -> None:
    """Hold names and shapes of stored parameters to those that are ``expected``.

    Args:
        source: where they are stored.
        config: the file that describes them.

    Raises:
        ValueError: they differ, or one is there twice; the first few are named.
    """
    stored = list(stored)
    found, times = dict(stored), Counter(name for name, _ in stored)
    wrong_shape = [name for name, shape in expected.items() if found.get(name, shape) != shape]
    problems = {
        "missing": [name for name in expected if name not in found],
        "surplus": [name for name in found if name not in expected],
        "mis-shaped": [f"{name} is {found[name]} instead of {expected[name]}" for name in wrong_shape],
        "in two files": [name for name, count in times.items() if count > 1],
    }
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise ValueError(
            f"the weights in {source} do not fit its {config}: parameters {told}. "
            f"Use the {config} that the weights were saved with, and the matching embodied_type."
        )


def weight_files(folder: Path) -> list[Path]:
    """``model.safetensors``, or the shards that the index lists. Raises ValueError for a missing or malformed one."""
    index = folder / INDEX
    if not index.exists():
        _refuse_pickles(folder)
        return [_existing(folder / "model.safetensors")]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise ValueError(f"{index} has no 'weight_map' from parameters to files. {FIX}")
    return [_existing(folder / shard) for shard in sorted(set(shards.values()))]


def _parts_of(model: nn.Module, folder: Path) -> dict[str, Path]:
    """The files beside the merged weights of parts that the model has."""
    children = dict(model.named_children())
    return {part: file for part, file in find_parts(folder).items() if part in children}


def stored_tensors(folder: Path, parts: Mapping[str, Path]) -> Iterator[tuple[str, list[int], Any]]:
    """Name, shape, and what ``[...]`` reads the values from, of every tensor of a folder's merged weights and of ``parts``
    (see `siirl.policies.prismatic.parts.find_parts`)."""
    for file in weight_files(folder):
        with _opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a dict)
                stored = tensors.get_slice(name)
                yield name, stored.get_shape(), stored
    for part, file in parts.items():
        for name, tensor in read_part(file).items():
            yield f"{part}.{name}", list(tensor.shape), tensor


def _opened(file: Path) -> Any:
    """A safetensors file, mapped. Raises ValueError when it is damaged."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or cut short ({error}); download it again. {FIX}") from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError when the file is missing or holds anything else."""
    try:
        content = json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON ({error}). {FIX}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type(content).__name__}, not a JSON object. {FIX}")
    return content


def _refuse_pickles(folder: Path) -> None:
    """Weights that are there only as pickles are not missing: they are never read, because reading runs code of the file."""
    files = [file.name for suffix in ("bin", "pt", "pth") for file in folder.glob(f"*.{suffix}")]
    pickles = sorted(name for name in files if not name.startswith(PARTS))
    if pickles and not (folder / "model.safetensors").exists():
        raise ValueError(
            f"{folder} has its weights only as pickles ({_first(pickles)}), which can run code and are not read; convert them to "
            f"model.safetensors. {FIX}"
        )


def _existing(file: Path) -> Path:
    if not file.parent.is_dir():
        raise ValueError(f"there is no policy folder {str(file.parent)!r}. {FIX}")
    if not file.is_file():
        raise ValueError(f"the policy folder {str(file.parent)!r} has no {file.name}. {FIX}")
    return file


def _read_text(file: Path) -> str:
    try:
        return _existing(file).read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text ({error}). {FIX}") from error


def _read_tokenizer(file: Path) -> Tokenizer:
    text = _read_text(file)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file} is no tokenizer ({error}). {FIX}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _checked_statistics(statistics: Any, source: str) -> dict[str, Any]:
    """Every entry must have the action's quantiles, q01 and q99, one number per dimension each."""
    entries = statistics if isinstance(statistics, dict) else {}
    for name, entry in entries.items():
        action = entry.get("action") if isinstance(entry, dict) else None
        quantiles = [action.get(key) for key in ("q01", "q99")] if isinstance(action, dict) else [None]
        lengths = {
            len(q) if isinstance(q, list) and all(isinstance(x, int | float) for x in q) else 0 for q in quantiles
        }
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"{source}: {name!r} needs 'action' with lists 'q01' and 'q99' of equal length. {FIX}")
    if not entries:
        raise ValueError(f"{source} must map un-normalisation keys to statistics of 'action'. {FIX}")
    return entries


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
