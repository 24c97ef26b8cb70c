import subprocess
import sys

import pytest
import torch

from siirl import torchvision_shim


def test_timm_and_transformers_import_after_it() -> None:
    """In a process of its own: the first import decides."""
    code = "import siirl.torchvision_shim, timm, transformers.models.llama.modeling_llama, torchvision"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_schemas_are_declared_only_where_the_operators_cannot_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise OSError(path)

    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    assert torchvision_shim._operators_load()
    monkeypatch.setattr(torch.ops, "load_library", fail)
    assert not torchvision_shim._operators_load()
