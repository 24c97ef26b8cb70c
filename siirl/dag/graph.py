"""The workflow as data: nodes that work per episode, per group or per batch, and the edges between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from siirl.config.schema import Config
from siirl.data.trajectory import Episode

Per = Literal["episode", "group", "batch"]

GRAINS: tuple[Per, ...] = ("episode", "group", "batch")
"""From fine to coarse: what a node works on may only grow along an edge."""

WORKER_ROLES: dict[str, tuple[str, ...]] = {"rollout": ("run",), "embedding": ("embed",), "actor": ("update",)}
"""Roles that a node worker hosts, and the operations that a node can ask of each; ``embedding`` also runs functions."""


@dataclass
class NodeOutput:
    """What a function on episodes returns.

    Attributes:
        columns: new columns, one value per episode given.
        keep: False drops the episodes given (only for ``per="group"``).
        reason: why they were dropped, for the metrics.
    """

    columns: dict[str, Sequence[object]] = field(default_factory=dict)
    keep: bool = True
    reason: str = ""


EpisodesFn = Callable[[Sequence[Episode], Config], NodeOutput]
"""A pure function of the columns of some episodes."""


@dataclass(frozen=True)
class Node:
    """One step of the workflow.

    Attributes:
        name: unique in the graph; also the name of its ``time/`` metric.
        role: ``driver`` for a function of what the driver knows of episodes, ``embedding`` for one that looks at their
            embeddings too; for an operation, the worker role that it belongs to.
        op: the function, or the operation's name.
        per: what it works on: an episode, a complete group, or the step's batch.
        inputs: names of the nodes whose output it needs.
        column: where the operation ``embed`` puts its per-episode result (``embedding``).
    """

    name: str
    role: str
    op: EpisodesFn | str
    per: Per
    inputs: tuple[str, ...] = ()
    column: str | None = None


@dataclass(frozen=True)
class Graph:
    """A workflow. Build it from nodes in any order; `problems` says what is wrong with it."""

    nodes: tuple[Node, ...]

    def problems(self) -> list[str]:
        """Everything that makes the graph unusable, each naming the nodes concerned."""
        names = [n.name for n in self.nodes]
        found = [
            f"node name {name!r} is used {names.count(name)} times"
            for name in dict.fromkeys(names)
            if names.count(name) > 1
        ]
        for node in self.nodes:
            found += self._node_problems(node, set(names))
        roots = [n.name for n in self.nodes if n.role == "rollout"]
        if len(roots) != 1:
            found.append(f"a graph needs exactly one node of role 'rollout', this one has {len(roots)}: {roots}")
        if not found and len(self.ordered()) < len(self.nodes):
            stuck = sorted(set(names) - {n.name for n in self.ordered()})
            found.append(f"the graph has a cycle through {', '.join(stuck)}")
        return found

    def _node_problems(self, node: Node, names: set[str]) -> list[str]:
        found = [
            f"node {node.name!r} needs {i!r}, which is no node of the graph" for i in node.inputs if i not in names
        ]
        if node.role == "driver":
            if not callable(node.op):
                found.append(f"node {node.name!r} has role 'driver': its op must be a function, not {node.op!r}")
        elif node.role not in WORKER_ROLES:
            found.append(
                f"node {node.name!r} has the unknown role {node.role!r}; allowed: driver, {', '.join(WORKER_ROLES)}"
            )
        elif node.op not in WORKER_ROLES[node.role] and not (node.role == "embedding" and callable(node.op)):
            allowed = ", ".join(WORKER_ROLES[node.role]) + ", or a function" * (node.role == "embedding")
            found.append(f"node {node.name!r}: role {node.role!r} has no operation {node.op!r}; allowed: {allowed}")
        if node.per not in GRAINS:
            found.append(f"node {node.name!r} has per={node.per!r}; allowed: {', '.join(GRAINS)}")
        elif (node.per == "episode") != (node.role == "rollout"):
            found.append(f"node {node.name!r}: per='episode' belongs to role 'rollout', and to it alone")
        elif node.role == "actor" and node.per != "batch":
            found.append(f"node {node.name!r}: an update works per='batch', not {node.per!r}")
        elif node.op == "embed" and node.per != "group":
            found.append(f"node {node.name!r}: an embedding works per='group', not {node.per!r}")
        if node.op == "embed" and node.column is None:
            found.append(f"node {node.name!r} has no column: say where its embeddings go, e.g. column='embedding'")
        if not node.inputs and node.role != "rollout":
            found.append(f"node {node.name!r} has no inputs: nothing would ever reach it")
        by_name = {n.name: n for n in self.nodes}
        for name in node.inputs:
            source = by_name.get(name)
            if source and {source.per, node.per} <= set(GRAINS) and GRAINS.index(source.per) > GRAINS.index(node.per):
                found.append(
                    f"node {node.name!r} works per {node.per} but needs {name!r}, which works per {source.per}"
                )
        return found

    def ordered(self) -> list[Node]:
        """The nodes in an order that respects every edge (Kahn); shorter than `nodes` when there is a cycle."""
        done: list[Node] = []
        waiting = list(self.nodes)
        while waiting:
            names = {n.name for n in done}
            free = [n for n in waiting if set(n.inputs) <= names]
            if not free:
                break
            done += free
            waiting = [n for n in waiting if n not in free]
        return done
