"""From a graph and a config to a plan: which node runs in which order, and which role lives on which slot."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from siirl.config.keys import given, refuse
from siirl.config.placement import (
    PLACEMENT,
    WORKER_ROLES,
    Placement,
    check_roles,
    place,
    read_placement,
    show_slots,
    slot_count,
    slots_per_machine,
    spread,
)
from siirl.config.schema import Config
from siirl.dag.graph import Graph, Node
from siirl.envs.base import ENVS


@dataclass(frozen=True)
class Slot:
    """One accelerator, or, without accelerators, a share of a machine's CPU.

    Attributes:
        index: number of the slot across the cluster.
        machine: number of the machine it belongs to.
        device: torch device of the roles on it, numbered on its machine.
    """

    index: int
    machine: int
    device: str


@dataclass(frozen=True)
class Plan:
    """What runs where.

    Attributes:
        nodes: the graph's nodes in execution order.
        slots: every slot of the declared cluster.
        placement: role → slot numbers, ascending; only roles that are used.
        processes: simulator slots of each simulator process of a rollout worker.
        env_slots: for each rollout worker, in the order of ``placement["rollout"]``, and each of its simulator
            processes, the slot where that lives.
    """

    nodes: tuple[Node, ...]
    slots: tuple[Slot, ...]
    placement: Placement
    processes: tuple[int, ...]
    env_slots: tuple[tuple[int, ...], ...]

    @property
    def gpus_per_machine(self) -> int:
        """Accelerators that each machine has a slot for."""
        return sum(slot.machine == 0 and slot.device != "cpu" for slot in self.slots)

    @property
    def used_slots(self) -> tuple[Slot, ...]:
        """The slots where something lives."""
        used = {slot for where in self.placement.values() for slot in where}
        return tuple(slot for slot in self.slots if slot.index in used)

    @property
    def group_nodes(self) -> tuple[Node, ...]:
        """Nodes that work on a complete group while the rollout goes on."""
        return tuple(n for n in self.nodes if n.per == "group")

    @property
    def batch_nodes(self) -> tuple[Node, ...]:
        """Nodes that work on the whole step's batch after the rollout."""
        return tuple(n for n in self.nodes if n.per == "batch")

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``plan.json`` in the run folder holds it: nodes in order, slots with what lives there, roles."""
        nodes = [
            {
                "name": n.name,
                "role": n.role,
                "op": getattr(n.op, "__name__", n.op),
                "per": n.per,
                "inputs": list(n.inputs),
            }
            for n in self.nodes
        ]
        slots = [
            {"index": slot.index, "machine": slot.machine, "device": slot.device, "holds": self._holds(slot)}
            for slot in self.slots
        ]
        return {"nodes": nodes, "slots": slots, "roles": {role: list(where) for role, where in self.placement.items()}}

    def describe(self) -> str:
        """The plan as text: nodes, edges, what lives on each slot, and the slots of each role."""
        lines = ["nodes (in order)"]
        lines += [
            f"  {n.name:<12} role={n.role:<10} per={n.per:<8} op={getattr(n.op, '__name__', n.op)}" for n in self.nodes
        ]
        lines.append("edges")
        lines += [f"  {source} -> {n.name}" for n in self.nodes for source in n.inputs]
        lines.append(f"slots ({len(self.used_slots)} of {len(self.slots)} used)")
        lines += [self._describe_slot(slot) for slot in self.used_slots]
        if idle := [slot.index for slot in self.slots if slot not in self.used_slots]:
            lines.append(f"  unused: {show_slots(idle)}")
        lines.append("roles")
        lines += [f"  {role:<12} slots {show_slots(where)}" for role, where in self.placement.items()]
        return "\n".join(lines)

    def _describe_slot(self, slot: Slot) -> str:
        return f"  slot {slot.index}: machine {slot.machine}, {slot.device}: {'; '.join(self._holds(slot))}"

    def _holds(self, slot: Slot) -> list[str]:
        """What lives on a slot: simulators, roles, weights."""
        parts = []
        processes = [zip(row, self.processes, strict=True) for row in self.env_slots]
        if simulators := sum(count for row in processes for place, count in row if place == slot.index):
            parts.append(f"{simulators} simulator{'s' * (simulators > 1)}")
        if roles := [role for role in WORKER_ROLES if slot.index in self.placement.get(role, ())]:
            parts.append(", ".join(roles))
        return [*parts, *self._weights(slot.index)]

    def _weights(self, slot: int) -> Iterator[str]:
        """What the slot holds of the policy."""
        ranks, acts = self.placement.get("actor", ()), slot in self.placement["rollout"]
        if slot not in ranks:
            yield from ["the whole weights"] if acts else []
        elif len(ranks) == 1:
            yield "the whole weights" + (", shared by rollout and actor" if acts else "")
        else:
            yield f"1/{len(ranks)} of the weights" + (", and whole ones to act with" if acts else "")


def compile_plan(graph: Graph, config: Config) -> Plan:
    """Check the graph and place its roles on the cluster that the config declares.

    Roles of one slot share one process. With ``trainer.val_only`` the rollout is all that is planned.

    Raises:
        ValueError: everything that is wrong with the graph or its placement, by name.
    """
    problems = graph.problems() or placement_problems(graph, config)
    if problems:
        raise ValueError("the workflow cannot run:\n  " + "\n  ".join(problems))
    on_machine = slots_per_machine(config)
    gpus = config.trainer.n_gpus_per_node > 0
    slots = tuple(
        Slot(i, i // on_machine, f"cuda:{i % on_machine}" if gpus else "cpu") for i in range(slot_count(config))
    )
    placement = place(config, _used_roles(graph, config))
    processes = _processes(config)
    row = spread(len(placement["rollout"]) * len(processes), placement["env"])
    env_slots = tuple(tuple(row[i : i + len(processes)]) for i in range(0, len(row), len(processes)))
    return Plan(_used_nodes(graph, config), slots, placement, processes, env_slots)


def placement_problems(graph: Graph, config: Config) -> list[str]:
    """What is wrong with where a sound graph's roles shall live, one line each; entries that cannot be read are
    reported by `siirl.config.placement.check_placement`.

    Raises:
        ValueError: the env type is unknown.
    """
    problems = list(check_roles(config, _used_roles(graph, config)))
    placed, _ = read_placement(config)
    envs, rollouts, processes = len(placed.get("env", ())), len(placed.get("rollout", ())), len(_processes(config))
    if rollouts and envs > rollouts * processes:
        key = "actor_rollout_ref.embodied.env.num_envs"
        there = f"rollout slots ({rollouts}) times {given(config, key)} make so many simulator processes"
        allowed = f"at most {rollouts * processes} env slots: {there}, and some of {envs} would have none"
        problems.append(refuse(config, PLACEMENT, allowed, f"fewer env slots, or a larger {key}"))
    return problems


def _used_nodes(graph: Graph, config: Config) -> tuple[Node, ...]:
    return tuple(node for node in graph.ordered() if node.role == "rollout" or not config.trainer.val_only)


def _used_roles(graph: Graph, config: Config) -> set[str]:
    """Of the nodes that run, and the rollout's simulators."""
    return {"env"} | {node.role for node in _used_nodes(graph, config)} - {"driver"}


def _processes(config: Config) -> tuple[int, ...]:
    """The simulator slots of each process of a rollout worker: as few processes as can hold them, with one more or less each."""
    env = config.actor_rollout_ref.embodied.env
    count = math.ceil(env.num_envs / ENVS.get(env.env_type).max_slots_per_process(env))
    each, rest = divmod(env.num_envs, count)
    return tuple(each + (process < rest) for process in range(count))
