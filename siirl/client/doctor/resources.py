"""Memory and disk, beside what the config needs of them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from siirl.client.doctor.lines import Line, Question
from siirl.config.demand import Demand, checkpoint_gib, demand
from siirl.config.estimate import GIB
from siirl.config.keys import given
from siirl.config.schema import Config

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's limit of memory is read, in either version of control groups."""
MEMORY_FIX = (
    "fewer simulators (env.num_envs), env.max_texture_size=512 for LIBERO, a smaller actor.ppo_micro_batch_size_per_gpu, "
    "model.lora_rank, or more slots; siirl plan tells what takes how much"
)
DEVICE_FIX = (
    "actor.fsdp_config.*_offload, model.enable_gradient_checkpointing=true, a smaller actor.ppo_micro_batch_size_per_gpu, "
    "model.lora_rank, or more actor slots; siirl plan tells what takes how much"
)


def check_memory(question: Question) -> Iterator[Line]:
    """What the machine has, and what the config takes of it."""
    machine = psutil.virtual_memory()
    total, free = memory_limit(machine.total) / GIB, min(machine.available, memory_limit(machine.total)) / GIB
    if not question.named:
        yield Line("pass", "memory", f"{free:.1f} of {total:.1f} GiB free, {os.cpu_count()} CPUs")
        return
    try:
        needed = demand(question.config)
    except ValueError as error:
        yield Line("fail", "memory", f"cannot be estimated: {error}", "repair that first")
        return
    yield memory_line("memory", needed.host, free, total, MEMORY_FIX)
    yield from device_memory_lines(needed)


def memory_limit(total: int, files: tuple[str, ...] = CGROUP_LIMITS) -> int:
    """Bytes that may be used: the machine's ``total``, or less where its container has a limit."""
    texts = [Path(file).read_text().strip() for file in files if Path(file).is_file()]
    return min([total, *(int(text) for text in texts if text.isdecimal())])


def memory_line(about: str, needed: float, free: float, total: float, fix: str) -> Line:
    """Whether ``needed`` GiB are there, and free now."""
    text = f"about {needed:.1f} GiB needed, {free:.1f} of {total:.1f} free"
    if needed > total:
        return Line("fail", about, text, fix)
    if needed > free:
        return Line("warn", about, text, f"end what else uses it, or {fix}")
    return Line("pass", about, text)


def device_memory_lines(needed: Demand) -> Iterator[Line]:
    """The accelerator with least memory, beside what the fullest slot holds; nothing where there is no accelerator."""
    import torch

    if needed.device and torch.cuda.is_available():
        index = min(range(torch.cuda.device_count()), key=lambda i: torch.cuda.get_device_properties(i).total_memory)
        free, total = torch.cuda.mem_get_info(index)
        yield memory_line(f"GPU {index} memory", needed.device, free / GIB, total / GIB, DEVICE_FIX)


def check_disk(question: Question) -> Iterator[Line]:
    """Whether the run folder can be written, and holds as many checkpoints as are kept."""
    if not question.named:
        yield Line("pass", "disk", f"{shutil.disk_usage(Path.cwd()).free / GIB:.0f} GiB free in {Path.cwd()}")
        return
    folder = existing(Path(question.config.trainer.default_local_dir))
    if problem := unwritable(folder):
        yield Line("fail", "disk", f"{folder} cannot be written: {problem}", "another trainer.default_local_dir")
        return
    try:
        size = checkpoint_gib(question.config) if question.trains else 0.0
    except ValueError as error:
        yield Line("fail", "disk", f"the size of a checkpoint is unknown: {error}", "repair that first")
        return
    yield disk_line(question.config, folder, shutil.disk_usage(folder).free / GIB, size)


def existing(path: Path) -> Path:
    """The nearest folder above ``path``, or itself, that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder; empty where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def disk_line(config: Config, folder: Path, free: float, size: float) -> Line:
    """Whether ``free`` GiB in ``folder`` hold the checkpoints of ``size`` GiB each (0: none is written)."""
    keep, text = config.trainer.max_actor_ckpt_to_keep, f"{free:.1f} GiB free in {folder}"
    if not size or config.trainer.save_freq < 0:
        return Line("pass", "disk", f"{text}; no checkpoint is written")
    most = (keep + 1) * size  # the newest is complete before the oldest goes
    text += f"; a checkpoint takes {size:.2f}, the {keep} kept and one under way {most:.2f}"
    if free < size:
        return Line("fail", "disk", text, "free some, or another trainer.default_local_dir")
    if free < most:
        fewer = int(free / size) - 1
        fix = f"trainer.max_actor_ckpt_to_keep={fewer}" if fewer >= 1 else "free some"
        return Line("warn", "disk", f"{text} ({given(config, 'trainer.max_actor_ckpt_to_keep')})", fix)
    return Line("pass", "disk", text)
