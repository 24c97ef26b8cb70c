"""What every benchmark shares: where results go, which machine and versions made them, and a printed table."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from siirl.observe.machine import environment

RESULTS = Path(__file__).parent / "results"


@dataclass
class Peak:
    """What `peak_memory` found, GiB."""

    gib: float = 0.0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """The most memory within: on a GPU what PyTorch's allocator gave out, on a CPU what was resident of this process."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.gib = torch.cuda.max_memory_allocated(device) / 2**30
        return
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    yield peak
    peak.gib = memory_status()["VmHWM"]


def memory_status(process: int | str = "self") -> dict[str, float]:
    """Resident memory of a process by kind (``VmHWM`` the highest so far, ``VmRSS``, ``RssAnon``, ``RssFile``), GiB."""
    lines = [line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines()]
    wanted = ("VmHWM:", "VmRSS:", "RssAnon:", "RssFile:")
    return {line[0][:-1]: int(line[1]) / 2**20 for line in lines if line and line[0] in wanted}


def release(device: torch.device) -> None:
    """Give memory that nothing refers to back."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``<name>.json`` with the machine beside the numbers."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"environment": environment()} | result, indent=1) + "\n")
    return path


def print_table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """Print rows under column names."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)
