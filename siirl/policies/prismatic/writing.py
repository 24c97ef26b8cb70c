"""Weights as safetensors: one file, or several with an index where they are large."""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-{:05}-of-{:05}.safetensors"
SHARD_BYTES = 5 * 10**9


def write_weights(
    tensors: Mapping[str, Tensor],
    read: Callable[[Collection[str]], dict[str, Tensor]],
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write parameters, bit for bit and under their names; weights that lay in the folder before are gone afterwards.

    Args:
        tensors: every parameter by its name; only sizes are read, so that they may be on ``meta``.
        read: the values of some of them, contiguous and on the CPU; called once for each file, so that memory holds one file.
        folder: is there.
        shard_bytes: more than this go into several files with an index; a tensor is never split.

    Returns:
        The files of weights.
    """
    shards = split(tensors, shard_bytes)
    files = [folder / SHARD.format(i, len(shards)) for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        files = [folder / WEIGHTS]
    for file, shard in zip(files, shards, strict=True):
        log.info("writing %s", file)
        write_weights_file(read(shard), file)  # let go before the next file's are read
    if len(shards) > 1:
        weight_map = {name: file.name for file, shard in zip(files, shards, strict=True) for name in shard}
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2))
    else:
        (folder / INDEX).unlink(missing_ok=True)
    for file in {folder / WEIGHTS, *folder.glob("model-*-of-*.safetensors")} - set(files):
        file.unlink(missing_ok=True)  # of an earlier save in more or fewer files
    return files


def write_weights_file(weights: dict[str, Tensor], file: Path, told: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file that whoever may read a new file here may read; the library would keep it to its owner.

    Args:
        told: metadata, besides the format.
    """
    file.touch()
    mode = file.stat().st_mode
    save_file(weights, file, metadata={"format": "pt", **(told or {})})
    file.chmod(mode)


def split(tensors: Mapping[str, Tensor], shard_bytes: int) -> list[list[str]]:
    """Names of ``tensors``, in order, in shards of at most ``shard_bytes``; a larger tensor has a shard of its own."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards
