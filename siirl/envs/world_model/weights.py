"""A world model's folder in the published layout: found, read with strict checks, and written.

::

    <folder>/
      config.json                      the transformer's architecture
      model.safetensors.index.json     its parameters' files
      model-00001.safetensors
      vae/config.json
      vae/diffusion_pytorch_model.safetensors
      resnet_rm.pth                    the reward classifier
      dataset_statistics.json          quantiles of the actions

An older layout has transformer and statistics below ``best_wm_ckpt/base_policy/``, the transformer's files in ``model/`` there;
it is found as well.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siirl.envs.world_model.reward_model import RewardModel, widths_of
from siirl.envs.world_model.stdit3 import STDiT3
from siirl.envs.world_model.vae import AutoencoderKL

M = TypeVar("M", bound=nn.Module)
INDEX, SHARD, SINGLE = "model.safetensors.index.json", "model-00001.safetensors", "model.safetensors"
VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"
REWARD_MODEL, STATISTICS = "resnet_rm.pth", "dataset_statistics.json"
PLACES = (".", "best_wm_ckpt/base_policy")
"""Where in the folder transformer and statistics may lie."""
FIX = "Name a complete folder of a published world model, or of one that siirl has trained."
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the autoencoder's attention in older files, and today's."""
NEVER_READ = ("cross_attn.", "y_embedder.", "fps_embedder.")
"""Parts of the transformer's names whose parameters do nothing; a file may lack them."""


@dataclass(frozen=True)
class ActionStatistics:
    """Quantiles of every number of an action, float32 [action_dim] each."""

    q01: np.ndarray
    q99: np.ndarray

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """Actions float32 [..., action_dim] → [..., action_dim] with q01 at −1 and q99 at 1; not clipped, as published."""
        return (2 * (actions - self.q01) / (self.q99 - self.q01) - 1).astype(np.float32)


@dataclass(frozen=True)
class WorldModelFiles:
    """Where the parts of a world model are.

    Attributes:
        config: the transformer's ``config.json``.
        transformer: the folder of the transformer's weights.
        vae: the autoencoder's folder.
        reward_model: the classifier's file.
        statistics: the file of the actions' quantiles.
    """

    config: Path
    transformer: Path
    vae: Path
    reward_model: Path
    statistics: Path

    @classmethod
    def find(
        cls,
        folder: str | Path,
        transformer: str | Path | None = None,
        vae: str | Path | None = None,
        reward_model: str | Path | None = None,
        statistics: str | Path | None = None,
    ) -> "WorldModelFiles":
        """Look through a folder, see above.

        Args:
            transformer, vae, reward_model, statistics: where these are if not in the folder; the transformer may be named by one
                of its files.

        Raises:
            ValueError: there is no such folder, or something is missing; all that is missing is named, with its place.
        """
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise ValueError(f"there is no world model folder {str(folder)!r}. {FIX}")
        inside = [root / place for place in PLACES]
        layers = _given(transformer, [place / below for place in inside for below in (".", "model")])
        layers = [place.parent if place.is_file() else place for place in layers]
        autoencoders = _given(vae, [place / "vae" for place in inside])
        wanted = {
            "the transformer's config.json": ([*layers, *inside], ["config.json"]),
            f"the transformer's {INDEX} or {SHARD}": (layers, [INDEX, SHARD, SINGLE]),
            "vae/config.json": (autoencoders, ["config.json"]),
            f"vae/{VAE_WEIGHTS}": (autoencoders, [VAE_WEIGHTS]),
            REWARD_MODEL: (_given(reward_model, [place / REWARD_MODEL for place in inside]), [""]),
            STATISTICS: (_given(statistics, [place / STATISTICS for place in inside]), [""]),
        }
        found = {name: _first(folders, names) for name, (folders, names) in wanted.items()}
        if missing := [name for name, place in found.items() if place is None]:
            told = "; ".join(f"no {name} in {' or '.join(map(str, wanted[name][0]))}" for name in missing)
            raise ValueError(f"the world model is not complete: {told}. {FIX}")
        config, shards, vae_config, _, rewards, quantiles = (place for place in found.values() if place is not None)
        return cls(config, shards.parent, vae_config.parent, rewards, quantiles)


def _given(path: str | Path | None, otherwise: list[Path]) -> list[Path]:
    """Where to look: at the path that was given, or else at the usual places."""
    return otherwise if path is None else [Path(path).expanduser()]


def _first(places: list[Path], names: list[str]) -> Path | None:
    """The first of these files that is there."""
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def read_transformer(file: Path, folder: Path, dtype: torch.dtype, device: torch.device) -> STDiT3:
    """The transformer that the ``config.json`` in ``file`` describes, with the weights in ``folder``.

    Raises:
        ValueError: a file is missing, malformed or cut short, or parameters do not fit ``config.json``.
    """
    with torch.device("meta"):
        model = STDiT3(read_json(file))
    tensors: dict[str, Tensor] = {}
    for file in _shards(folder):
        tensors |= _load(file, dtype, device)
    for name, tensor in model.state_dict().items():
        if name not in tensors and any(part in name for part in NEVER_READ):
            tensors[name] = torch.zeros(tensor.shape, dtype=dtype, device=device)
    return _filled(model, tensors, folder)


def read_vae(folder: Path, dtype: torch.dtype, device: torch.device) -> AutoencoderKL:
    """The autoencoder with its weights. Raises ValueError as `read_transformer` does."""
    with torch.device("meta"):
        model = AutoencoderKL(read_json(folder / "config.json"))
    tensors = _load(folder / VAE_WEIGHTS, dtype, device)
    for name in [name for name in tensors if ".attentions." in name]:
        layer = name.split(".")[-2]
        if layer in OLD_ATTENTION:
            tensors[name.replace(f".{layer}.", f".{OLD_ATTENTION[layer]}.")] = tensors.pop(name)
    return _filled(model, tensors, folder)


def read_reward_model(file: Path, device: torch.device) -> RewardModel:
    """The classifier, float32. Raises ValueError as `read_transformer` does, and for a file that would run code."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file} holds more than tensors, or is cut short ({error}); save the model's state_dict alone"
        ) from error
    state = state.get("model_state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not (widths := widths_of(state)):
        raise ValueError(f"{file} holds no parameters of a residual network named net.…. {FIX}")
    return _filled(RewardModel(widths), state, file).float().to(device)


def read_statistics(file: Path) -> ActionStatistics:
    """The actions' quantiles, which lie under ``action``, or one level deeper.

    Raises:
        ValueError: the file is missing, malformed or of several data sets, or a quantile is no number or not below the other.
    """
    content = read_json(file)
    if "action" not in content and len(content) > 1:
        raise ValueError(
            f"{file} holds statistics of {', '.join(content)}; give those alone that the world model was trained with, as "
            "'action', in a file that world_model.stats_path names"
        )
    entry = content if "action" in content else next(iter(content.values()), None)
    action = entry.get("action") if isinstance(entry, dict) else None
    quantiles = [action.get(key) if isinstance(action, dict) else None for key in ("q01", "q99")]
    if not all(isinstance(q, list) and q and all(isinstance(x, int | float) for x in q) for q in quantiles):
        raise ValueError(f"{file} must hold 'action' with lists 'q01' and 'q99'. {FIX}")
    q01, q99 = (np.asarray(q, np.float32) for q in quantiles)
    if q01.shape != q99.shape or not (np.isfinite(q99 - q01).all() and (q01 < q99).all()):
        raise ValueError(
            f"{file}: every q01 must be a number below its q99; they are {q01.tolist()} and {q99.tolist()}. {FIX}"
        )
    return ActionStatistics(q01, q99)


def save_world_model(
    folder: str | Path,
    transformer: STDiT3,
    vae: AutoencoderKL,
    reward_model: RewardModel,
    statistics: Mapping[str, Any],
) -> None:
    """Write the published layout.

    Args:
        statistics: ``dataset_statistics.json``, see `read_statistics`.
    """
    root = Path(folder)
    (root / "vae").mkdir(parents=True, exist_ok=True)
    _write_json(root / "config.json", {"model_type": "STDiT3"} | vars(transformer.config))
    _write_json(root / "vae" / "config.json", {"_class_name": "AutoencoderKL"} | vae.config.published())
    _write_json(root / STATISTICS, statistics)
    weights = _on_host(transformer)
    save_file(weights, root / SHARD, metadata={"format": "pt"})
    size = sum(tensor.nbytes for tensor in weights.values())
    _write_json(root / INDEX, {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(weights, SHARD)})
    save_file(_on_host(vae), root / "vae" / VAE_WEIGHTS, metadata={"format": "pt"})
    torch.save(_on_host(reward_model), root / REWARD_MODEL)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError when the file is missing or holds anything else."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON ({error}). {FIX}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type(content).__name__}, not a JSON object. {FIX}")
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))


def _on_host(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def _shards(folder: Path) -> list[Path]:
    """The files of a transformer's weights. Raises ValueError for one that the index names but that is missing."""
    if not (folder / INDEX).is_file():
        return [folder / name for name in (SHARD, SINGLE) if (folder / name).is_file()][:1]
    shards = read_json(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise ValueError(f"{folder / INDEX} has no 'weight_map' from parameters to files. {FIX}")
    files = [folder / shard for shard in sorted(set(shards.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"{folder} has no {', no '.join(missing)}, which {INDEX} names. {FIX}")
    return files


def _load(file: Path, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """A file's parameters, which do not refer to it afterwards."""
    try:
        mapped = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no safetensors file, or cut short ({error}); download it again. {FIX}") from error
    return {name: tensor.to(device, dtype, copy=True) for name, tensor in mapped.items()}


def _filled(model: M, tensors: Mapping[str, Tensor], source: Path) -> M:
    """The model with these parameters, in evaluation mode. Raises ValueError unless names and shapes are exactly the model's."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "surplus": [name for name in tensors if name not in expected],
        "of another shape": [n for n, shape in expected.items() if n in tensors and tensors[n].shape != shape],
    }
    if told := [f"{kind}: {', '.join(names[:3])} ({len(names)})" for kind, names in problems.items() if names]:
        raise ValueError(f"the weights in {source} do not fit their config ({'; '.join(told)}). {FIX}")
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)
