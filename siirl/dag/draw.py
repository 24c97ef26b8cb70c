"""A workflow drawn with characters: one line per node, in execution order, and rails on the left that show which needs which."""

from collections import Counter
from collections.abc import Sequence

from siirl.config.placement import show_slots
from siirl.dag.compile import Plan, simulators
from siirl.dag.graph import Node

NODE = "●"
UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
STROKES = {
    0: " ",
    UP | DOWN: "│",
    LEFT | RIGHT: "─",
    UP | LEFT: "╯",
    UP | RIGHT: "╰",
    DOWN | LEFT: "╮",
    DOWN | RIGHT: "╭",
    UP | DOWN | LEFT: "┤",
    UP | DOWN | RIGHT: "├",
    UP | LEFT | RIGHT: "┴",
    DOWN | LEFT | RIGHT: "┬",
    UP | DOWN | LEFT | RIGHT: "┼",
}
"""Sides of a cell → the character whose strokes go there. A rail that only passes under others stays a plain ``│``."""


def draw_plan(plan: Plan) -> str:
    """The workflow of a plan for a terminal: the rails, and of each node what it works on, who runs it on which slots, and its
    operation."""
    cells = [
        (node.name, f"per {node.per}", _where(plan, node), getattr(node.op, "__name__", str(node.op)))
        for node in plan.nodes
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = iter("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)
    rails = draw_rails(plan.nodes)
    width = max(map(len, rails))
    lines = [f"  {rail:<{width}}  {next(texts) if NODE in rail else ''}".rstrip() for rail in rails]
    return "\n".join(["workflow", *lines])


def _where(plan: Plan, node: Node) -> str:
    """Who runs a node, and on which slots; of the rollout, its simulators too."""
    if node.role == "driver":
        return "driver"
    slots = plan.placement[node.role]
    text = f"{node.role} on {_slots(slots)}"
    if node.role == "rollout":
        text += "".join(f", {count}" for count in simulators(plan.processes * len(slots)))
        text += f" on {_slots(envs)}" if (envs := plan.placement["env"]) != slots else ""
    return text


def _slots(slots: Sequence[int]) -> str:
    return f"slot{'s' * (len(slots) > 1)} {show_slots(slots)}"


def draw_rails(nodes: Sequence[Node]) -> list[str]:
    """The drawing's lines, one with a `NODE` for each of ``nodes``, which come after all that they need. A rail leaves a node
    downwards and ends at the last one that needs it; what goes to a node is joined in the line above it."""
    waiting = Counter(name for node in nodes for name in set(node.inputs))
    rails: list[str | None] = []
    lines = []
    for node in nodes:
        joined = [rails.index(name) for name in dict.fromkeys(node.inputs)]
        waiting.subtract(set(node.inputs))
        ending = [column for column in joined if not waiting[rails[column] or ""]]
        own = min(ending) if ending else _free(rails)
        if joined:
            lines.append(_junctions(rails, joined, ending, own))
        for column in ending:
            rails[column] = None
        lines.append(_row([NODE if c == own else "│" if rail else " " for c, rail in enumerate(rails)]))
        if waiting[node.name]:
            rails[own] = node.name
    return lines


def _free(rails: list[str | None]) -> int:
    """The first column without a rail; a new one is added where there is none."""
    if None not in rails:
        rails.append(None)
    return rails.index(None)


def _junctions(rails: Sequence[str | None], joined: Sequence[int], ending: Sequence[int], own: int) -> str:
    """The line above a node in column ``own``, where the rails in the columns ``joined`` lead to it."""
    first, last = min(*joined, own), max(*joined, own)
    line = ""
    for column, rail in enumerate(rails):
        inside = first <= column <= last
        passes = rail and column not in joined
        down = column == own or (rail and column not in ending)
        strokes = UP * bool(rail) | DOWN * bool(down)
        if inside and not passes:
            strokes |= LEFT * (column > first) | RIGHT * (column < last)
        line += STROKES[strokes] + ("─" if inside and column < last else " ")
    return line.rstrip()


def _row(cells: Sequence[str]) -> str:
    return " ".join(cells).rstrip()
