"""What the compiler refuses, by name."""

import pytest

from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.graph import Graph, Node, NodeOutput
from siirl.dag.pipelines import build_graph


def nothing(episodes: object, config: Config) -> NodeOutput:
    return NodeOutput()


ROLLOUT = Node("rollout", "rollout", "run", per="episode")
UPDATE = Node("update", "actor", "update", per="batch", inputs=("rollout",))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((ROLLOUT, ROLLOUT, UPDATE), "'rollout' is used 2 times"),
        ((ROLLOUT, Node("a", "driver", nothing, "batch", ("b",)), UPDATE), "'a' needs 'b', which is no node"),
        ((ROLLOUT, Node("a", "critic", "run", "batch", ("rollout",))), "'a' has the unknown role 'critic'"),
        (
            (ROLLOUT, Node("a", "actor", "fly", "batch", ("rollout",))),
            "role 'actor' has no operation 'fly'; allowed: update",
        ),
        (
            (ROLLOUT, Node("a", "embedding", "draw", "group", ("rollout",))),
            "role 'embedding' has no operation 'draw'; allowed: embed, or a function",
        ),
        ((ROLLOUT, Node("a", "actor", nothing, "batch", ("rollout",))), "role 'actor' has no operation"),
        ((UPDATE,), "exactly one node of role 'rollout'"),
        ((ROLLOUT, Node("a", "driver", nothing, "batch", ()), UPDATE), "'a' has no inputs"),
        ((ROLLOUT, Node("a", "driver", "text", "batch", ("rollout",))), "op must be a function"),
        (
            (ROLLOUT, Node("a", "driver", nothing, "sometimes", ("rollout",))),
            "per='sometimes'; allowed: episode, group, batch",
        ),
        ((ROLLOUT, Node("a", "driver", nothing, "episode", ("rollout",))), "per='episode' belongs to role 'rollout'"),
        ((ROLLOUT, Node("a", "actor", "update", "group", ("rollout",))), "an update works per='batch'"),
        (
            (ROLLOUT, Node("a", "embedding", "embed", "batch", ("rollout",), "embedding")),
            "an embedding works per='group'",
        ),
        ((ROLLOUT, Node("a", "embedding", "embed", "group", ("rollout",))), "'a' has no column"),
        (
            (
                ROLLOUT,
                Node("a", "driver", nothing, "batch", ("rollout",)),
                Node("b", "driver", nothing, "group", ("a",)),
            ),
            "'b' works per group but needs 'a', which works per batch",
        ),
        (
            (
                ROLLOUT,
                Node("a", "driver", nothing, "batch", ("b", "rollout")),
                Node("b", "driver", nothing, "batch", ("a",)),
            ),
            "a cycle through a, b",
        ),
    ],
)
def test_a_bad_graph_is_refused_by_name(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(ValueError, match="the workflow cannot run") as refused:
        compile_plan(Graph(nodes), Config())
    assert message in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    bad = Graph((Node("a", "critic", "run", "batch", ("x",)), Node("b", "actor", "fly", "batch", ("y",))))
    assert len(bad.problems()) >= 5


def test_srpo_embeds_and_grpo_does_not() -> None:
    config = Config()
    names = [n.name for n in compile_plan(build_graph(config), config).nodes]
    assert names == ["rollout", "filter", "embedding", "reward", "advantage", "update"]
    assert {n.name for n in build_graph(config).nodes if n.role == "embedding"} == {"embedding", "reward"}
    config.algorithm.reward = "sparse"
    plan = compile_plan(build_graph(config), config)
    assert [n.name for n in plan.nodes] == ["rollout", "filter", "reward", "advantage", "update"]
    assert "embedding" not in plan.placement


def test_a_run_that_only_validates_plans_the_rollout_alone() -> None:
    config = Config()
    config.trainer.val_only = True
    plan = compile_plan(build_graph(config), config)
    assert [n.name for n in plan.nodes] == ["rollout"]
    assert plan.placement == {"env": (0,), "rollout": (0,)}


def test_the_plan_tells_slots_and_roles() -> None:
    config = Config()
    config.trainer.nnodes, config.trainer.n_gpus_per_node = 2, 8
    text = compile_plan(build_graph(config), config).describe()
    for expected in ("slot 15: machine 1, cuda:7", "actor        slots 0-15"):
        assert expected in text


def custom(config: Config) -> Graph:
    return Graph((ROLLOUT, UPDATE))


@pytest.mark.parametrize("name", ["tests.dag.test_graph:absent", "no.such.module:f", "tests.dag.test_graph", ":"])
def test_a_custom_pipeline_that_cannot_be_imported_is_named(name: str) -> None:
    config = Config()
    config.dag.custom_pipeline_fn = name
    with pytest.raises(ValueError, match=r"dag\.custom_pipeline_fn"):
        build_graph(config)


def test_a_custom_pipeline_replaces_ours() -> None:
    config = Config()
    config.dag.custom_pipeline_fn = "tests.dag.test_graph:custom"
    assert [n.name for n in build_graph(config).nodes] == ["rollout", "update"]
    config.dag.custom_pipeline_fn = "tests.dag.test_graph:nothing_but_text"
    with pytest.raises(ValueError, match="returned a str"):
        build_graph(config)


def nothing_but_text(config: Config) -> str:
    return "no graph"
