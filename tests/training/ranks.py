"""Work on several real processes that are ranks of one world."""

import socket
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from siirl.training.fsdp import Ranks, init_ranks

CPU = torch.device("cpu")


def on_ranks(world: int, actors: int, work: Callable[[Ranks, Path], object], folder: Path) -> None:
    """Run ``work`` (found by its name, so of a module's top level) on every rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(world, actors, port, work, folder), nprocs=world)


def _rank(rank: int, world: int, actors: int, port: int, work: Callable[[Ranks, Path], object], folder: Path) -> None:
    torch.set_num_threads(1)
    ranks = init_ranks(rank, world, actors, "127.0.0.1", port, CPU)
    try:
        work(ranks, folder)
    finally:
        dist.destroy_process_group()
