"""Work on several real processes that are ranks of one world."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from siirl.training.fsdp import Ranks, init_ranks

CPU = torch.device("cpu")


def on_ranks(world: int, actors: int, work: Callable[[Ranks, Path], object], folder: Path) -> None:
    """Run ``work`` (found by its name, so of a module's top level) on every rank."""
    # processes of a server that has imported what all of them need: alone, each takes seconds for it
    mp.get_context("forkserver").set_forkserver_preload([__name__, "tests.training.updates", "tests.policies.tiny"])
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (world, actors, f"{meeting}/store", work, folder)
        mp.start_processes(_rank, arguments, nprocs=world, start_method="forkserver")


def _rank(rank: int, world: int, actors: int, store: str, work: Callable[[Ranks, Path], object], folder: Path) -> None:
    torch.set_num_threads(1)
    ranks = init_ranks(rank, world, actors, dist.FileStore(store, world), CPU)
    try:
        work(ranks, folder)
    finally:
        dist.destroy_process_group()
