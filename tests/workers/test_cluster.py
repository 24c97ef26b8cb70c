"""What the machines of a Ray cluster are to a run."""

import pytest
import ray

from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.workers.cluster import connect


def machine(rank: int) -> dict:
    return {"Alive": True, "NodeManagerAddress": f"10.0.0.{rank}", "Resources": {"CPU": 2.0, f"node_rank_{rank}": 1.0}}


@pytest.mark.parametrize(("nodes", "problem"), [(1, "trainer.nnodes=1, but 2 machines"), (2, None), (3, "has 2")])
def test_as_many_machines_as_were_launched_are_used(
    monkeypatch: pytest.MonkeyPatch, nodes: int, problem: str | None
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: [machine(rank) for rank in range(2)])
    config = Config()
    config.trainer.nnodes = nodes
    plan = compile_plan(build_graph(config), config)
    if problem is None:
        connect(config, plan)
    else:
        with pytest.raises(ValueError, match=problem):
            connect(config, plan)
