"""From a graph and a config to a plan: which node runs in which order, and which role lives on which slot."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from siirl.config.environments import TRAINING, VALIDATION, environments
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
from siirl.config.schema import Config, EnvConfig
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
class Process:
    """A simulator process.

    Attributes:
        slots: simulator slots that it holds.
        env: the environment that runs in it, see `siirl.config.environments`.
        lock_step: whether its slots step together, see `siirl.envs.base.EnvFactory`.
    """

    slots: int
    env: str = TRAINING
    lock_step: bool = False


@dataclass(frozen=True)
class Plan:
    """What runs where.

    Attributes:
        nodes: the graph's nodes in execution order.
        slots: every slot of the declared cluster.
        placement: role → slot numbers, ascending; only roles that are used.
        processes: the simulator processes of a rollout worker, those of the training environment first.
        env_slots: for each rollout worker, in the order of ``placement["rollout"]``, and each of its simulator
            processes, the slot where that lives.
    """

    nodes: tuple[Node, ...]
    slots: tuple[Slot, ...]
    placement: Placement
    processes: tuple[Process, ...]
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
        """What lives on each slot, and the slots of each role; `siirl.dag.draw` shows the workflow."""
        lines = [f"slots ({len(self.used_slots)} of {len(self.slots)} used)"]
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
        here = [p for row in self.env_slots for at, p in zip(row, self.processes, strict=True) if at == slot.index]
        parts = [*simulators(here)]
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


def simulators(processes: Sequence[Process]) -> Iterator[str]:
    """How many slots some processes hold, in words: of the training environment, and of one that only validates."""
    for env, what in ((TRAINING, ""), (VALIDATION, " to validate")):
        if count := sum(process.slots for process in processes if process.env == env):
            yield f"{count} simulator{'s' * (count > 1)}{what}"


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
    processes = {env: _processes(settings, env) for env, settings in environments(config).items()}
    kinds = [_env_slots(placement, len(ones)) for ones in processes.values()]
    env_slots = tuple(tuple(at for row in rows for at in row) for rows in zip(*kinds, strict=True))
    all_processes = tuple(process for ones in processes.values() for process in ones)
    return Plan(_used_nodes(graph, config), slots, placement, all_processes, env_slots)


def placement_problems(graph: Graph, config: Config) -> list[str]:
    """What is wrong with where a sound graph's roles shall live, one line each; entries that cannot be read are
    reported by `siirl.config.placement.check_placement`.

    Raises:
        ValueError: the env type is unknown.
    """
    problems = list(check_roles(config, _used_roles(graph, config)))
    placed, _ = read_placement(config)
    envs, rollouts = len(placed.get("env", ())), len(placed.get("rollout", ()))
    processes = max(len(_processes(settings, env)) for env, settings in environments(config).items())
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


def _processes(settings: EnvConfig, env: str) -> tuple[Process, ...]:
    """The simulator processes of an environment that a rollout worker has: as few as can hold its slots, with one more or less
    each."""
    factory = ENVS.get(settings.env_type)
    count = math.ceil(settings.num_envs / factory.max_slots_per_process(settings))
    each, rest = divmod(settings.num_envs, count)
    return tuple(Process(each + (number < rest), env, factory.lock_step) for number in range(count))


def _env_slots(placement: Placement, count: int) -> list[list[int]]:
    """Of each rollout worker's ``count`` processes of one environment the slots where they live."""
    row = spread(len(placement["rollout"]) * count, placement["env"])
    return [row[i : i + count] for i in range(0, len(row), count)]
