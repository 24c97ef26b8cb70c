"""The drawn workflow: every node behind its inputs, every edge there, whatever the nodes are called."""

from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.observe.report.flow import Place, flow, layout, slots_table


def test_the_shipped_workflow_is_a_row() -> None:
    config = Config()
    plan = compile_plan(build_graph(config), config).as_dict()
    assert [place.depth for place in layout(plan["nodes"]).values()] == list(range(6))
    picture = str(flow(plan))
    assert picture.count("<svg") == 2, "one for wide screens, one for narrow ones"
    assert picture.count('class="edge"') == 2 * 5
    assert "1 simulator" not in str(slots_table(plan))
    assert "2 simulators; rollout, embedding, actor" in str(slots_table(plan))


def test_a_diamond_has_its_equals_beside_each_other_and_names_are_escaped() -> None:
    def node(name: str, *inputs: str) -> dict:
        return {"name": name, "role": "driver", "op": "f", "per": "group", "inputs": list(inputs)}

    nodes = [node("a"), node("<b>", "a"), node("c", "a"), node("d", "<b>", "c", "a")]
    assert layout(nodes) == {"a": Place(0, 0), "<b>": Place(1, 0), "c": Place(1, 1), "d": Place(2, 0)}
    picture = str(flow({"nodes": nodes, "slots": [], "roles": {}}))
    assert "<b>" not in picture
    assert "&lt;b&gt;" in picture


def test_a_long_chain_is_drawn_downwards_only() -> None:
    nodes = [
        {"name": str(i), "role": "driver", "op": "f", "per": "batch", "inputs": [str(i - 1)] * (i > 0)}
        for i in range(9)
    ]
    assert str(flow({"nodes": nodes, "slots": [], "roles": {}})).count("<svg") == 1
