"""What one machine must hold of a run, added up from the estimate: to compare with what it has."""

from collections import defaultdict
from dataclasses import dataclass

from siirl.config.estimate import FP32, GIB, estimate_rows, parameter_counts, slot_kind, used_placement
from siirl.config.placement import WORKER_ROLES, slots_per_machine
from siirl.config.schema import Config

MOMENTS = 2
"""Tensors that AdamW keeps of each parameter."""


@dataclass(frozen=True)
class Demand:
    """Memory of the machine that needs most, GiB.

    Attributes:
        host: of the machine: simulators, its part of the trajectories, and without accelerators what the slots hold.
        device: of the accelerator that holds most; 0 without accelerators.
    """

    host: float
    device: float


def demand(config: Config) -> Demand:
    """What `estimate_rows` comes to on one machine; Python and its libraries come on top.

    Raises:
        ValueError: as `estimate_rows`.
    """
    sums: dict[str, float] = defaultdict(float)
    for row in estimate_rows(config):
        sums[row.where] += row.gib
    placement, on_machine = used_placement(config), slots_per_machine(config)
    slots = sorted({slot for role in WORKER_ROLES for slot in placement.get(role, ())})
    machines: dict[int, float] = defaultdict(float)
    for slot in slots:
        machines[slot // on_machine] += sums[slot_kind(placement, slot)]
    host = sum(gib for where, gib in sums.items() if where.startswith("machine"))
    host += sums["cluster"] / config.trainer.nnodes
    if config.trainer.n_gpus_per_node:
        return Demand(host, max(sums[slot_kind(placement, slot)] for slot in slots))
    return Demand(host + max(machines.values()), 0.0)


def checkpoint_gib(config: Config) -> float:
    """Size of a checkpoint: what is trained, in float32, and AdamW's moments of it.

    Raises:
        ValueError: a file of weights is damaged.
    """
    size, adapters, _ = parameter_counts(config)
    return (adapters or size) * FP32 * (1 + MOMENTS) / GIB
