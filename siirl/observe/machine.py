"""The machine and the versions behind a number."""

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("siirl", "torch", "transformers", "timm", "peft", "ray", "mujoco", "robosuite", "mani_skill", "numpy", "av")


def environment() -> dict[str, Any]:
    """CPU model, cores, memory (GiB), accelerators, Python, and the versions of those `PACKAGES` that are installed."""
    gpus = gpu_names()
    return ({"gpus": gpus} if gpus else {}) | {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def gpu_names() -> list[str]:
    """NVIDIA GPUs of this machine, as its driver names them; asks no CUDA, which would take memory on each."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [_field(file, "Model") or "NVIDIA GPU" for file in found]


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "from source"


def _cpu_model() -> str:
    return _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def _field(file: Path, name: str) -> str | None:
    """What stands behind ``name:`` in a text of such lines; None where it is not there."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
