"""Policy folders to be spoilt, and what must be said about them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file


def edit(file: Path, **changes: Any) -> None:
    """Change top-level entries of a JSON file; None removes one."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def assert_names_wrong_parameters(
    load: Callable[[Path], object], folder: Path, surplus: str, misshaped: str, width: int
) -> None:
    """``projector.fc1.bias`` becomes ``surplus``, and the vector ``misshaped`` shorter than its ``width``."""
    weights = load_file(folder / "model.safetensors")
    weights[surplus] = weights.pop("projector.fc1.bias")
    weights[misshaped] = torch.zeros(5)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit") as error:
        load(folder)
    for part in (
        "1 missing: projector.fc1.bias",
        f"1 surplus: {surplus}",
        f"1 mis-shaped: {misshaped} is [5] instead of [{width}]",
    ):
        assert part in str(error.value)
