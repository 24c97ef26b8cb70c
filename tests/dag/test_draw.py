"""The drawing shows every edge and no other: it is read back from its characters."""

from hypothesis import given
from hypothesis import strategies as st

from siirl.config.schema import Config
from siirl.dag.compile import Plan, compile_plan
from siirl.dag.draw import DOWN, LEFT, NODE, RIGHT, STROKES, UP, draw_plan, draw_rails
from siirl.dag.graph import Node
from siirl.dag.pipelines import build_graph

SIDES = {character: sides for sides, character in STROKES.items()}


def plan_of(config: Config) -> Plan:
    return compile_plan(build_graph(config), config)


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Nodes in execution order; each needs some of those before it."""
    nodes = [Node("n0", "rollout", "run", "episode")]
    for index in range(1, draw(st.integers(1, 9))):
        names = draw(st.lists(st.sampled_from([n.name for n in nodes]), min_size=1, max_size=4))
        nodes.append(Node(f"n{index}", "driver", print, "group", tuple(names)))
    return nodes


def edges_of(lines: list[str], nodes: list[Node]) -> set[tuple[str, str]]:
    """The edges that a drawing shows: from each node upwards, along every stroke that leads to it."""
    rows = iter(nodes)
    names = {row: next(rows).name for row, line in enumerate(lines) if NODE in line}
    width = max(map(len, lines))
    cells = [line.ljust(width) for line in lines]

    def source(row: int, column: int) -> str:
        """Whose rail comes down to a cell."""
        while cells[row][column] != NODE:
            assert SIDES[cells[row][column]] & DOWN, "a rail does not end in the air"
            row -= 1
        return names[row]

    found = set()
    for row, name in names.items():
        if row == 0:
            continue
        own = cells[row].index(NODE)
        if not SIDES[cells[row - 1][own]] & DOWN:
            continue
        reached = {own}
        for step, side in ((-1, LEFT), (1, RIGHT)):
            column = own
            while SIDES[cells[row - 1][column]] & side or (column != own and cells[row - 1][column] == "│"):
                column += step
                if SIDES[cells[row - 1][column]] & (LEFT | RIGHT):
                    reached.add(column)
        found |= {(source(row - 2, c), name) for c in reached if SIDES[cells[row - 1][c]] & UP}
    return found


@given(graphs())
def test_the_drawing_shows_every_edge_and_no_other(nodes: list[Node]) -> None:
    lines = draw_rails(nodes)
    assert sum(line.count(NODE) for line in lines) == len(nodes)
    assert edges_of(lines, nodes) == {(source, node.name) for node in nodes for source in node.inputs}


def test_a_fork_and_a_join_as_they_look() -> None:
    names = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("a", "d")}
    lines = draw_rails([Node(name, "driver", print, "group", inputs) for name, inputs in names.items()])
    assert lines == ["●", "├─╮", "│ ●", "├─│─╮", "│ │ ●", "│ ├─╯", "│ ●", "├─╯", "●"]


def test_the_shipped_workflow_is_drawn_with_its_roles_and_slots() -> None:
    config = Config()
    config.trainer.n_gpus_per_node = 4
    config.cluster.component_placement = {"env": "0-1", "rollout": "2-3", "actor": "all"}
    title, *lines = draw_plan(plan_of(config)).splitlines()
    assert title == "workflow"
    assert [" ".join(line.split()) for line in lines[::2]] == [
        "● rollout per episode rollout on slots 2-3, 4 simulators on slots 0-1 run",
        "● filter per group driver filter_group",
        "● embedding per group embedding on slots 2-3 embed",
        "● reward per batch embedding on slots 2-3 reward_episodes",
        "● advantage per batch driver estimate_advantages",
        "● update per batch actor on slots 0-3 update",
    ]
    assert {line.strip() for line in lines[1::2]} == {"│"}


def test_a_run_that_only_validates_is_one_node() -> None:
    config = Config()
    config.trainer.val_only = True
    assert draw_plan(plan_of(config)).splitlines()[1:] == [
        "  ●  rollout  per episode  rollout on slot 0, 2 simulators  run"
    ]
