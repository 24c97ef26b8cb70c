"""PyTorch, and the accelerators that a config asks for."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from siirl.client.doctor.lines import Line, Question
from siirl.config.cluster import GPUS
from siirl.config.estimate import GIB
from siirl.config.keys import given
from siirl.config.schema import Config

HALF_CAPABILITY = (8, 0)
"""Compute capability from which on a GPU multiplies bf16 in hardware (Ampere)."""


@dataclass(frozen=True)
class Device:
    """An accelerator as PyTorch sees it.

    Attributes:
        name: the product.
        capability: CUDA's compute capability.
        total, free: memory, GiB.
        problem: what a small product of matrices on it ended with; empty when it was right.
    """

    name: str
    capability: tuple[int, int]
    total: float
    free: float
    problem: str = ""


@dataclass(frozen=True)
class Torch:
    """What PyTorch says of itself.

    Attributes:
        version: its own.
        cuda: the CUDA that it was built for; None in a build for the CPU.
        driver: the NVIDIA driver of this machine; empty where there is none.
        devices: accelerators that it can use.
    """

    version: str
    cuda: str | None
    driver: str
    devices: tuple[Device, ...]


def check_torch(question: Question) -> Iterator[Line]:
    """PyTorch, and whether it has the accelerators of the config."""
    if problem := torch_problem():
        yield Line(
            "fail", "PyTorch", f"cannot be imported: {problem}", "pip install --force-reinstall torch torchvision"
        )
        return
    yield from torch_lines(ask_torch(), question.config if question.named else None)


@cache
def torch_problem() -> str:
    """Why PyTorch cannot be imported; empty where it can."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:  # missing, or a library that it links to is
        return str(error)
    return ""


def ask_torch() -> Torch:
    """Ask PyTorch, and have each device compute something."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Torch(torch.__version__, torch.version.cuda, driver_version(), tuple(map(ask_device, range(count))))


def ask_device(index: int) -> Device:
    """One accelerator's name, memory, and whether it computes."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    problem = ""
    free = total = properties.total_memory
    try:
        ones = torch.ones(64, 64, device=f"cuda:{index}", dtype=torch.bfloat16)
        if (ones @ ones).sum().item() != 64**3:
            problem = "64 × 64 ones times ones are not 64"
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # also what PyTorch raises without a kernel for the device
        problem = str(error).splitlines()[0]
    return Device(properties.name, (properties.major, properties.minor), total / GIB, free / GIB, problem)


def driver_version() -> str:
    """The NVIDIA driver's version; empty where ``nvidia-smi`` is missing or fails."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else ""


def torch_lines(found: Torch, config: Config | None) -> Iterator[Line]:
    """What PyTorch has, beside what the config asks of this machine (None: nothing)."""
    wanted = config.trainer.n_gpus_per_node if config else 0
    build = f"CUDA {found.cuda}" if found.cuda else "a build for the CPU"
    driver = f", driver {found.driver}" if found.driver else ""
    text = f"{found.version}, {build}{driver}"
    if config and len(found.devices) < wanted:
        yield Line("fail", "PyTorch", f"{text}: sees {len(found.devices)} GPUs, {given(config, GPUS)}", _fix(found))
    elif found.cuda and not found.devices:
        yield Line("pass", "PyTorch", f"{text}, no GPU: computes on the CPU")
    elif config and found.devices and not wanted:
        unused = f"{text}; {len(found.devices)} GPUs would not be used, {given(config, GPUS)}"
        yield Line("warn", "PyTorch", unused, f"{GPUS}={len(found.devices)}")
    else:
        yield Line("pass", "PyTorch", text)
    for index, device in enumerate(found.devices):
        yield device_line(index, device, config)


def _fix(found: Torch) -> str:
    less = f"{GPUS}={len(found.devices)}"
    if not found.cuda:
        return f"install PyTorch's CUDA build (pip install --force-reinstall torch torchvision), or {less}"
    if not found.driver:
        return f"install the NVIDIA driver (in a container: --gpus all), or {less}"
    return f"a driver that is new enough for CUDA {found.cuda}, fewer GPUs hidden by CUDA_VISIBLE_DEVICES, or {less}"


def device_line(index: int, device: Device, config: Config | None) -> Line:
    """Whether one accelerator computes, and computes as the config wants it to."""
    capability = ".".join(map(str, device.capability))
    text = f"{device.name}, capability {capability}, {device.free:.1f} of {device.total:.1f} GiB free"
    about = f"GPU {index}"
    if device.problem:
        fix = "a build of PyTorch that knows this GPU, or a newer driver; CUDA_VISIBLE_DEVICES can leave it out"
        return Line("fail", about, f"{text}: {device.problem}", fix)
    half = config is not None and config.actor_rollout_ref.model.dtype == "bf16"
    if half and device.capability < HALF_CAPABILITY:
        fix = "actor_rollout_ref.model.dtype=fp32"
        return Line("warn", about, f"{text}: multiplies bf16 without hardware for it, slowly", fix)
    return Line("pass", about, text)
