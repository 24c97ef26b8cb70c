"""The first frame of a published trajectory, ``traj*.npy``: an array of one record per frame.

Records of a structured dtype are read where they are. Published files hold pickled dictionaries; a pickle can run any program, so
only the functions that rebuild arrays are allowed, and every other one is refused by name.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

_ARRAY = np.array(0.0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
}
"""What a pickle may name, by module and name; NumPy 2 renamed the module."""
LARGEST = 2**34
"""Bytes; a larger file is no trajectory."""


class _Arrays(pickle.Unpickler):
    """Rebuilds arrays and plain containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return ALLOWED[module, name]


def first_frame(file: Path) -> tuple[np.ndarray, str]:
    """Picture uint8 [H, W, 3] and instruction of the first record.

    Raises:
        ValueError: the file is damaged, asks for more than arrays, or has no picture or instruction; says the fix.
    """
    try:
        record = _first_record(file)
        image, instruction = np.asarray(record["image"]), _text(record)
    except (OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{file} is no trajectory that can be read ({error!s:.200}); get it again, or leave it out"
        ) from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{file}: the first picture is {image.dtype} {list(image.shape)}; allowed: uint8 [height, width, 3]"
        )
    return np.ascontiguousarray(image), instruction


def _first_record(file: Path) -> Any:
    with file.open("rb") as stream:
        shape, dtype = _header(stream)
        if len(shape) != 1 or shape[0] < 1:
            raise ValueError(f"its shape is {shape}, not one record per frame")
        if not dtype.hasobject:
            if dtype.fields is None or "image" not in dtype.fields:
                raise ValueError(f"its records are {dtype}, without a field image")
            return np.load(file, mmap_mode="r", allow_pickle=False)[0]
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST} bytes")
        frames = _Arrays(stream).load()
    return frames[0]


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(stream)
    else:
        raise ValueError(f"its format is version {version}; allowed: 1.0 and 2.0")
    return shape, dtype


def _text(record: Any) -> str:
    """The language goal: ``instruction`` or, in some files, ``task``."""
    names = (record.dtype.names or ()) if isinstance(record, np.void) else record.keys()
    value = record["instruction" if "instruction" in names else "task"]
    value = value.item() if isinstance(value, np.ndarray | np.generic) else value
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"its instruction is {text!r:.80}")
    return text
