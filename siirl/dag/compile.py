"""From a graph and a config to a plan: which node runs in which order, and which role lives on which slot."""

from dataclasses import dataclass

from siirl.config.schema import Config
from siirl.dag.graph import Graph, Node

ROLES_OF_A_NODE_WORKER = ("rollout", "embedding", "actor")


@dataclass(frozen=True)
class Slot:
    """One accelerator, or, without accelerators, the CPU of a machine.

    Attributes:
        index: number of the slot across the cluster.
        machine: number of the machine it belongs to.
        device: torch device of the roles on it.
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
        placement: role → slot numbers.
        num_envs: simulator slots per rollout worker.
    """

    nodes: tuple[Node, ...]
    slots: tuple[Slot, ...]
    placement: dict[str, tuple[int, ...]]
    num_envs: int

    @property
    def group_nodes(self) -> tuple[Node, ...]:
        """Nodes that work on a complete group while the rollout goes on."""
        return tuple(n for n in self.nodes if n.per == "group")

    @property
    def batch_nodes(self) -> tuple[Node, ...]:
        """Nodes that work on the whole step's batch after the rollout."""
        return tuple(n for n in self.nodes if n.per == "batch")

    def describe(self) -> str:
        """The plan as text: nodes, roles, slots and edges."""
        lines = ["nodes (in order)"]
        lines += [
            f"  {n.name:<12} role={n.role:<10} per={n.per:<8} op={getattr(n.op, '__name__', n.op)}" for n in self.nodes
        ]
        lines.append("edges")
        lines += [f"  {source} -> {n.name}" for n in self.nodes for source in n.inputs]
        lines.append("slots")
        lines += [f"  slot {s.index}: machine {s.machine}, {s.device}, {self.num_envs} simulators" for s in self.slots]
        lines.append("roles")
        lines += [f"  {role:<12} slots {', '.join(map(str, where))}" for role, where in self.placement.items()]
        return "\n".join(lines)


def compile_plan(graph: Graph, config: Config) -> Plan:
    """Check the graph and place its roles on the cluster that the config declares.

    Every role lives on every slot (collocated): roles of one slot share one process and one copy of the weights. With
    ``trainer.val_only`` the rollout is all that is planned.

    Raises:
        ValueError: everything that is wrong with the graph, by name.
    """
    problems = graph.problems()
    if problems:
        raise ValueError("the workflow cannot run:\n  " + "\n  ".join(problems))
    trainer = config.trainer
    devices = [f"cuda:{i}" for i in range(trainer.n_gpus_per_node)] or ["cpu"]
    slots = [
        Slot(machine * len(devices) + i, machine, device)
        for machine in range(trainer.nnodes)
        for i, device in enumerate(devices)
    ]
    nodes = tuple(node for node in graph.ordered() if node.role == "rollout" or not trainer.val_only)
    used = {node.role for node in nodes}
    every = tuple(s.index for s in slots)
    placement = {"env": every} | {role: every for role in ROLES_OF_A_NODE_WORKER if role in used}
    return Plan(nodes, tuple(slots), placement, config.actor_rollout_ref.embodied.env.num_envs)
