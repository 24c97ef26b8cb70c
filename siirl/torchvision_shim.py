"""Import this before timm or transformers: it makes them importable where torchvision's C++ operators cannot load.

The CUDA build of torchvision cannot load its operators on a machine without CUDA, and torchvision then breaks at import
because the schemas of ``nms`` and ``qnms`` are missing. Nothing here calls those operators, so declaring the two
schemas is enough. Where the real operators load, nothing is declared.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _operators_load() -> bool:
    """Whether torchvision's compiled operators are there and load; loading them twice is harmless."""
    spec = importlib.util.find_spec("torchvision")
    libraries = (
        [f for folder in spec.submodule_search_locations or [] for f in Path(folder).glob("_C.*")] if spec else []
    )
    for library in libraries:
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return bool(libraries)


LIBRARY = None if _operators_load() else torch.library.Library("torchvision", "DEF")
"""Keeps the declared schemas alive; None where the real operators are used."""

if LIBRARY is not None:
    for schema in _SCHEMAS:
        LIBRARY.define(schema)
