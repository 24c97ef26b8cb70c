"""The Ray cluster: joining it, which of its machines is which of the config's, and reserving the plan's slots."""

import os
import re
import signal
import threading
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from siirl.config.schema import Config
from siirl.dag.compile import Plan

RESERVE_SECONDS = 60
"""How long to wait for slots of a cluster that others use."""

RANK_RESOURCE = re.compile(r"node_rank_(\d+)")
"""The resource by which ``scripts/launch_cluster.sh`` tells a machine's rank."""

PIN = 0.001
"""Amount of a machine's own resource that ties a slot to it."""


def connect(config: Config, plan: Plan) -> None:
    """Join the cluster of ``RAY_ADDRESS`` (``auto``: the one on this machine), or start one on this machine; check that it
    holds the declared slots.

    Raises:
        ValueError: the cluster has fewer accelerators or machines than the config declares, or the launch script started more.
    """
    trainer = config.trainer
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "local")
        # a slot is a share of the CPU: more of them than cores are more, smaller shares
        shares = max(os.cpu_count() or 1, len(plan.slots)) if address == "local" else None
        before = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, num_cpus=shares, include_dashboard=False, configure_logging=False)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own ends the driver as a crash
    alive = machines(trainer.n_gpus_per_node)
    if len(alive) < trainer.nnodes:
        raise ValueError(
            f"trainer.nnodes={trainer.nnodes}, but the Ray cluster has {len(alive)}: start Ray on the others "
            "(scripts/launch_cluster.sh), or lower it"
        )
    if (launched := sum(_rank(node) is not None for node in alive)) > trainer.nnodes:
        raise ValueError(
            f"trainer.nnodes={trainer.nnodes}, but {launched} machines were launched for this run; set "
            f"trainer.nnodes={launched}: the others would idle; or launch fewer"
        )
    for number, node in enumerate(alive[: trainer.nnodes]):
        if (gpus := int(node["Resources"].get("GPU", 0))) < trainer.n_gpus_per_node:
            raise ValueError(
                f"trainer.n_gpus_per_node={trainer.n_gpus_per_node}, but machine {number} of the Ray cluster "
                f"({node['NodeManagerAddress']}) has {gpus} GPUs; lower it (0 runs on the CPU)"
            )


def machines(gpus: int) -> list[dict[str, Any]]:
    """The cluster's machines in the order of their slots: by the rank they were started with; without ranks those that have
    ``gpus`` accelerators first, and of these the head."""

    def place(node: dict[str, Any]) -> tuple[float, bool, bool, str]:
        rank = _rank(node)
        is_head = "node:__internal_head__" in node["Resources"]
        has_too_few = node["Resources"].get("GPU", 0) < gpus
        return float("inf") if rank is None else rank, has_too_few, not is_head, node["NodeManagerAddress"]

    return sorted((node for node in ray.nodes() if node["Alive"]), key=place)


def _rank(node: dict[str, Any]) -> int | None:
    """The rank that the launch script gave a machine; None for one that it did not start."""
    ranks = [int(found[1]) for name in node["Resources"] if (found := RANK_RESOURCE.fullmatch(name))]
    return min(ranks, default=None)


def reserve(plan: Plan) -> PlacementGroup:
    """Reserve the slots that the plan uses, all or none: bundle i is the i-th slot of `Plan.used_slots`.

    Raises:
        ValueError: the cluster has not that many that are free.
    """
    used = plan.used_slots
    nodes = machines(plan.gpus_per_machine)
    bundles = []
    for slot in used:
        bundle = {"CPU": 1.0} | ({"GPU": 1.0} if slot.device != "cpu" else {})
        if len(nodes) > 1:
            bundle[f"node:{nodes[slot.machine]['NodeManagerAddress']}"] = PIN
        bundles.append(bundle)
    group = placement_group(bundles, strategy="PACK")
    if group.wait(RESERVE_SECONDS):
        return group
    remove_placement_group(group)
    needed = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in bundles[0] if "node:" not in name}
    there, free = (
        {name: of.get(name, 0.0) for name in needed} for of in (ray.cluster_resources(), ray.available_resources())
    )
    slots = "1 slot needs" if len(used) == 1 else f"{len(used)} slots need"
    raise ValueError(
        f"{slots} {needed}, but of the Ray cluster's {there} only {free} are free, {RESERVE_SECONDS} s long; "
        "end what runs there, or start Ray with more (ray start --num-cpus, --num-gpus)"
    )
