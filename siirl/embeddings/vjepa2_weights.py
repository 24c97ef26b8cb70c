"""Reading V-JEPA 2 weights: the published ``.pt`` format and Hugging Face folders."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import siirl.torchvision_shim  # noqa: F401  (before transformers)

from transformers import VJEPA2Config, VJEPA2Model  # isort: skip

PREFIX = "module.backbone."
PUBLISHED_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22, 1664: 26}
"""Attention heads by width, which the tensors do not tell: `vit_tiny` … `vit_gigantic_xformers` of the published code.
They are 64 wide, except in ViT-H (1280), where they are 80."""
PUBLISHED_DEPTH = {192: 12, 384: 12, 768: 12, 1024: 24, 1280: 32, 1408: 40, 1664: 48}
"""Transformer blocks by width, of the same encoders."""
SMALL_HEADS = 4
"""Attention heads of checkpoints narrower than any published one."""

RENAMED = (
    (r"^patch_embed\.", "embeddings.patch_embeddings."),
    (r"^blocks\.", "layer."),
    (r"\.attn\.", ".attention."),
    (r"^norm\.", "layernorm."),
)


def load_encoder(path: str, img_size: int, num_frames: int) -> nn.Module:
    """The encoder at ``path`` (a ``.pt`` file or a folder), float32 on the CPU, for videos of this size.

    Raises:
        ValueError: see `siirl.embeddings.vjepa2.load_vjepa2`.
    """
    place = _existing(path)
    if place.is_dir():
        return _from_folder(place, img_size, num_frames)
    encoder, tensors = _described(place, img_size, num_frames)
    encoder.to_empty(device="cpu").load_state_dict(tensors)
    return encoder


def check_encoder(path: str, img_size: int, num_frames: int) -> None:
    """Raises ValueError as `load_encoder` does, for what the headers of the files tell; no weights are read."""
    place = _existing(path)
    if not place.is_dir():
        _described(place, img_size, num_frames)
        return
    _check_trained_size(place, _folder_config(place), img_size, num_frames)
    if not (files := [*place.glob("*.safetensors")]) and not any(place.glob("*.bin")):
        raise ValueError(f"{place}: not a V-JEPA 2 folder in Hugging Face layout: there are no weights")
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{file}: no safetensors file, or cut short ({error}); download it again") from error


def _existing(path: str) -> Path:
    place = Path(path).expanduser()
    if not place.exists():
        raise ValueError(f"V-JEPA 2 weights: {path} does not exist; give a published .pt file or a Hugging Face folder")
    return place


def num_heads(width: int) -> int:
    """Attention heads of an encoder of this width. Raises ValueError for a width that no published encoder has."""
    if width in PUBLISHED_HEADS:
        return PUBLISHED_HEADS[width]
    if width < min(PUBLISHED_HEADS) and width % SMALL_HEADS == 0:
        return SMALL_HEADS
    raise ValueError(
        f"V-JEPA 2 weights: no published encoder is {width} wide (they are {', '.join(map(str, PUBLISHED_HEADS))}), so "
        "its number of attention heads is unknown; convert it to a Hugging Face folder, whose config names it"
    )


def _described(path: Path, img_size: int, num_frames: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The encoder of a published file, on ``meta``, and its parameters, mapped: names and shapes are read, no values."""
    published = _read_published(path)
    kernel = published.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim != 5 or "blocks.0.mlp.fc1.weight" not in published:
        raise ValueError(
            f"{path}: the encoder has no {PREFIX}patch_embed.proj.weight [E, 3, t, p, p] or no "
            f"{PREFIX}blocks.0.mlp.fc1.weight; give a V-JEPA 2 video encoder as published"
        )
    width, channels, tubelet, patch, _ = kernel.shape
    _check_size(img_size, patch, num_frames, tubelet)
    depth = len({name.split(".")[1] for name in published if name.startswith("blocks.")})
    if depth != PUBLISHED_DEPTH.get(width, depth):
        raise ValueError(
            f"{path}: {depth} blocks, but the published encoder that is {width} wide has {PUBLISHED_DEPTH[width]}; download "
            "it again, or convert your own encoder to a Hugging Face folder, whose config.json names its depth"
        )
    config = VJEPA2Config(
        crop_size=img_size,
        frames_per_clip=num_frames,
        patch_size=patch,
        tubelet_size=tubelet,
        in_chans=channels,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=num_heads(width),
        # Half a unit on top, because transformers truncates width · ratio to an integer.
        mlp_ratio=(published["blocks.0.mlp.fc1.weight"].shape[0] + 0.5) / width,
    )
    with torch.device("meta"):  # the predictor, which is not needed, never takes memory
        encoder = VJEPA2Model(config).encoder
    tensors = _rename(published)
    _check_parameters(encoder, tensors, path)
    return encoder, tensors


def _from_folder(folder: Path, img_size: int, num_frames: int) -> nn.Module:
    config = _folder_config(folder)
    _check_trained_size(folder, config, img_size, num_frames)
    try:
        loaded: Any = VJEPA2Model.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{folder}: not a V-JEPA 2 folder in Hugging Face layout: {error}") from error
    model, report = loaded
    _check_names(folder, model, report)
    kernel = model.encoder.embeddings.patch_embeddings.proj.weight
    _check_size(img_size, kernel.shape[-1], num_frames, kernel.shape[2])
    return model.encoder


def _folder_config(folder: Path) -> Any:
    if not (folder / "config.json").is_file():  # without it, transformers takes its own defaults
        raise ValueError(f"{folder}: not a V-JEPA 2 folder in Hugging Face layout: there is no config.json")
    try:
        return VJEPA2Config.from_pretrained(folder, local_files_only=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{folder}: not a V-JEPA 2 folder in Hugging Face layout: {error}") from error


def _check_trained_size(folder: Path, config: Any, img_size: int, num_frames: int) -> None:
    """The videos asked for must be those that the folder's encoder was trained on."""
    for key, trained, setting, asked in (
        ("crop_size", config.crop_size, "embedding_img_size", img_size),
        ("frames_per_clip", config.frames_per_clip, "embedding_num_frames", num_frames),
    ):
        if trained != asked:
            raise ValueError(
                f"{folder}: its config.json says {key}={trained}, but {setting} is {asked}; set "
                f"actor_rollout_ref.embodied.{setting}={trained}, or give weights for {asked}"
            )


def _check_names(folder: Path, model: VJEPA2Model, report: dict[str, Any]) -> None:
    """The folder's weights must be those of the encoder that its config.json describes."""
    missing, surplus = (
        {name for name in report[kind] if name.startswith("encoder.")} for kind in ("missing_keys", "unexpected_keys")
    )
    if not missing | surplus:
        return
    stored = {name for name in model.state_dict() if name.startswith("encoder.")} - missing | surplus
    depth = len({name.split(".")[2] for name in stored if name.startswith("encoder.layer.")})
    problems = {"missing": sorted(missing), "surplus": sorted(surplus)}
    told = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
    raise ValueError(
        f"{folder}: config.json says num_hidden_layers={model.config.num_hidden_layers}, the weights have {depth} layers, "
        f"and the encoder's parameters do not fit ({told}); use the config.json that the weights were saved with"
    )


def _read_published(path: Path) -> dict[str, Tensor]:
    """The tensors under "encoder", without the prefix."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a PyTorch checkpoint (a zip archive), or cut short; download it again")
    try:
        # Mapped, not read: the published files also hold a second encoder, the predictor and the optimizer.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path}: not a PyTorch checkpoint of plain tensors: {error}") from error
    encoder = checkpoint.get("encoder") if isinstance(checkpoint, dict) else None
    if not isinstance(encoder, dict):
        raise ValueError(
            f'{path}: not a published V-JEPA 2 checkpoint, which is {{"encoder": {{"{PREFIX}…": tensor}}}}'
        )
    return {re.sub(r"^(module\.)?(backbone\.)?", "", name): tensor for name, tensor in encoder.items()}


def _rename(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published names → transformers' names; the joint qkv projection is split into three."""
    renamed = {}
    for name, tensor in published.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("qkv", part)] = third
        else:
            renamed[name] = tensor
    return renamed


def _check_parameters(encoder: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """ValueError when names or shapes of ``tensors`` are not exactly those of ``encoder``."""
    expected = encoder.state_dict()
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "surplus": [name for name in tensors if name not in expected],
        "of another shape": [n for n in expected if n in tensors and tensors[n].shape != expected[n].shape],
    }
    if found := [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]:
        raise ValueError(f"{path}: the encoder's parameters do not fit V-JEPA 2 ({'; '.join(found)})")


def _check_size(img_size: int, patch: int, num_frames: int, tubelet: int) -> None:
    if img_size % patch:
        raise ValueError(f"embedding_img_size={img_size} must be a multiple of V-JEPA 2's patch size {patch}")
    if num_frames % tubelet:
        raise ValueError(f"embedding_num_frames={num_frames} must be a multiple of V-JEPA 2's tubelet size {tubelet}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
