"""Sharded tensors on disk with torch.distributed.checkpoint, read back without trusting its pickled index."""

import pickle
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from siirl.training.checkpoint import DISK_ERRORS, CheckpointFailed

MODEL = "model."
"""A trainer's checkpoint holds the policy's trained parameters under this prefix and their published names (adapters under
those that peft gives them)."""

INDEX = ".metadata"
"""The file, written by the first rank, that says which file holds which piece of which tensor."""

_METADATA = "torch.distributed.checkpoint.metadata"
INDEX_TYPES = {
    (_METADATA, "Metadata"),
    (_METADATA, "TensorStorageMetadata"),
    (_METADATA, "TensorProperties"),
    (_METADATA, "ChunkStorageMetadata"),
    (_METADATA, "MetadataIndex"),
    (_METADATA, "StorageMeta"),
    (_METADATA, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}
"""What the pickled index of a checkpoint of tensors names, besides dtypes; none of it runs code of a file's choice."""


def save_tensors(folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None = None) -> list[str]:
    """Write every rank's shards into ``folder`` (collective over ``group``; without one this process writes alone).

    Returns:
        The files that hold the tensors, of all ranks, by their names in ``folder``: the index and those that it refers to.

    Raises:
        CheckpointFailed: on some rank the disk is full or fails.
        FileNotFoundError: this rank does not see ``folder``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not there on machine {socket.gethostname()}, though it was made on another: "
            "trainer.default_local_dir must be on a file system that all machines share, at the same absolute path"
        )
    try:
        with _quiet():
            index = dcp.save(dict(tensors), storage_writer=_Writer(folder), process_group=group, no_dist=group is None)
    except CheckpointException as error:
        causes = {rank: cause for rank, (cause, _) in error.failures.items()}
        if not all(isinstance(cause, OSError) and cause.errno in DISK_ERRORS for cause in causes.values()):
            raise
        shown = "; ".join(f"rank {rank}: {cause}" for rank, cause in causes.items())
        raise CheckpointFailed(f"the weights could not be written to {folder}: {shown}; free disk space") from error
    return [INDEX, *sorted({place.relative_path for place in index.storage_data.values()})]


def load_tensors(folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Fill ``tensors`` in place from ``folder``, written by any number of ranks (collective, as `save_tensors`).

    Raises:
        ValueError: the folder holds other tensors than asked for, or other shapes, or an index that is not one.
    """
    saved = {name: tuple(tensor.shape) for name, tensor in saved_tensors(folder).items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if saved != wanted:
        names = [name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name)]
        shown = "; ".join(f"{n}: saved {saved.get(n, 'nothing')}, needed {wanted.get(n, 'nothing')}" for n in names[:8])
        raise ValueError(
            f"the checkpoint {folder} is of another model: {len(names)} tensors differ ({shown}); "
            "set actor_rollout_ref.model.path, the LoRA keys beside it, critic.use_critic_model and algorithm.reward_type to "
            "what the checkpoint was trained with"
        )
    with _quiet():
        dcp.load(dict(tensors), storage_reader=_Reader(folder), process_group=group, no_dist=group is None)


def saved_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor in ``folder``, whole, on ``meta``: shape and dtype without the values. Raises ValueError for an index
    that is not one, OSError for one that is gone."""
    return {
        name: torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
        for name, entry in _Reader(folder).read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values, on the CPU, of some of the tensors that `saved_tensors` lists; the others are not read. Raises OSError
    for a file that is gone or cannot be read."""
    values = {name: torch.empty_like(tensor, device="cpu") for name, tensor in tensors.items()}
    reader = _Reader(folder)
    reader.read_metadata()  # here, because DCP logs tracebacks when it is gone
    try:
        with _quiet():
            dcp.load(dict(values), storage_reader=reader, no_dist=True)
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))  # of the one rank
        if isinstance(cause, OSError):
            raise cause from error
        raise
    return values


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that there is no process group: one rank needs none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


class _Writer(dcp.FileSystemWriter):
    """The usual writer, but a full disk stays an OSError: `torch.save` covers it with a RuntimeError of its own."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


class _Unpickler(pickle.Unpickler):
    """Reads the index; a file that names anything else, such as ``os.system``, is refused before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in INDEX_TYPES or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise ValueError(
            f"the checkpoint's index names {module}.{name}, which no index of tensors holds: do not trust it"
        )


class _Reader(dcp.FileSystemReader):
    """The usual reader, but its index is unpickled, once, from an allow list; tensors are read with ``weights_only``."""

    _index: Metadata | None = None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        if self._index is None:
            with open(Path(self.path) / INDEX, "rb") as file:
                self._index = _Unpickler(file).load()
        self._index.storage_meta = self._index.storage_meta or StorageMeta()
        self._index.storage_meta.load_id = self.load_id
        return self._index
