"""Placement to plan: the documented layouts, where the simulators live, and what cannot be placed."""

import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.client.main_dag import main
from siirl.client.preflight import preflight
from siirl.config.load import load_config
from siirl.config.placement import show_slots
from siirl.config.schema import Config
from siirl.dag.compile import Plan, Process, compile_plan
from siirl.dag.pipelines import build_graph
from siirl.envs.libero import LiberoEnv
from tests.config.folders import path_override

HYBRID = """
   cluster:
      num_nodes: 2
      num_gpus_per_node: 8
      component_placement:
         env: 0-7
         rollout: 8-15
         actor: 0-15

   rollout:
      pipeline_stage_num: 2
"""
COLLOCATED = """
   cluster:
      num_nodes: 1
      num_gpus_per_node: 8
      component_placement:
         env,rollout,actor: all
"""
DISAGGREGATED = """
   cluster:
      num_nodes: 2
      num_gpus_per_node: 16
      component_placement:
         env: 0-3
         rollout: 4-7
         actor: 8-15
"""
DOCUMENTED = pytest.mark.parametrize(
    ("document", "slots", "placed", "lines"),
    [
        (
            HYBRID,
            16,
            {"env": "0-7", "rollout": "8-15", "embedding": "8-15", "actor": "0-15"},
            [
                "slots (16 of 16 used)",
                "slot 0: machine 0, cuda:0: 2 simulators; actor; 1/16 of the weights\n",
                "slot 15: machine 1, cuda:7: rollout, embedding, actor; 1/16 of the weights, and whole ones to act with\n",
            ],
        ),
        (
            COLLOCATED,
            8,
            dict.fromkeys(("env", "rollout", "embedding", "actor"), "0-7"),
            ["slot 7: machine 0, cuda:7: 2 simulators; rollout, embedding, actor; 1/8 of the weights, and whole"],
        ),
        (
            DISAGGREGATED,
            32,
            {"env": "0-3", "rollout": "4-7", "embedding": "4-7", "actor": "8-15"},
            [
                "slots (16 of 32 used)",
                "slot 3: machine 0, cuda:3: 2 simulators\n",
                "slot 4: machine 0, cuda:4: rollout, embedding; the whole weights\n",
                "slot 8: machine 0, cuda:8: actor; 1/8 of the weights\n",
                "unused: 16-31\n",
            ],
        ),
    ],
    ids=["hybrid", "collocated", "disaggregated"],
)


def plan_of(config: Config) -> Plan:
    return compile_plan(build_graph(config), config)


def placed_on(slots: int, entries: dict[str, str] | None, num_envs: int = 2) -> Config:
    config = Config()
    config.cluster.num_cpu_slots_per_node, config.cluster.component_placement = slots, entries
    config.actor_rollout_ref.embodied.env.num_envs = num_envs
    return config


@DOCUMENTED
def test_a_documented_layout_is_planned_as_it_is_written(
    tmp_path: Path, document: str, slots: int, placed: dict[str, str], lines: list[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(textwrap.dedent(document))
    plan = plan_of(load_config("mine", [path_override(tmp_path)], tmp_path))
    assert len(plan.slots) == slots
    assert {role: show_slots(where) for role, where in plan.placement.items()} == placed
    assert len(plan.env_slots) == len(plan.placement["rollout"])
    assert plan.processes == (Process(1), Process(1))
    assert all(len(row) == 2 for row in plan.env_slots)
    each = [place for row in plan.env_slots for place in row]
    assert sorted(each) == [slot for slot in plan.placement["env"] for _ in range(2)]


@DOCUMENTED
def test_a_dry_run_prints_a_documented_layout(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    document: str,
    slots: int,
    placed: dict[str, str],
    lines: list[str],
) -> None:
    (tmp_path / "mine.yaml").write_text(textwrap.dedent(document))
    assert main(["--config-dir", str(tmp_path), "--config-name=mine", "dry_run=true"]) == 0
    text = capsys.readouterr().out
    for line in [*lines, *(f"  {role:<12} slots {where}\n" for role, where in placed.items())]:
        assert line in text


def test_one_slot_shares_the_weights_and_several_cpu_slots_need_no_gpu() -> None:
    plan = plan_of(placed_on(1, None))
    assert plan.env_slots == ((0, 0),)
    assert (
        "slot 0: machine 0, cpu: 2 simulators; rollout, embedding, actor; the whole weights, shared by"
        in plan.describe()
    )
    config = placed_on(2, {"env": "all", "rollout": "0-2", "actor": "3"})
    config.trainer.nnodes, config.algorithm.reward = 2, "sparse"
    plan = plan_of(config)
    assert [(slot.machine, slot.device) for slot in plan.slots] == [(0, "cpu"), (0, "cpu"), (1, "cpu"), (1, "cpu")]
    assert plan.placement == {"env": (0, 1, 2, 3), "rollout": (0, 1, 2), "actor": (3,)}
    assert plan.env_slots == ((0, 0), (1, 2), (2, 3))
    assert "slot 3: machine 1, cpu: 1 simulator; actor; the whole weights\n" in plan.describe()


def test_validation_needs_rollout_and_env_alone_and_ignores_where_training_is() -> None:
    config = placed_on(4, {"env": "0", "rollout": "1-2"})
    config.trainer.val_only = True
    assert plan_of(config).placement == {"env": (0,), "rollout": (1, 2)}
    config.cluster.component_placement = {"env": "0", "rollout": "1-2", "embedding": "2", "actor": "3"}
    assert plan_of(config).placement == {"env": (0,), "rollout": (1, 2)}
    assert "  unused: 3\n" in plan_of(config).describe()


@given(st.data())
def test_simulators_fill_the_env_slots_evenly_and_in_order(data: st.DataObject) -> None:
    rollouts, num_envs = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 5))
    envs = data.draw(st.integers(1, min(8, rollouts * num_envs)))
    entries = {"env": f"0-{envs - 1}", "rollout": f"8-{7 + rollouts}", "actor": "all"}
    plan = plan_of(placed_on(16, entries, num_envs))
    row = [place for places in plan.env_slots for place in places]
    assert [len(places) for places in plan.env_slots] == [num_envs] * rollouts
    assert set(row) == set(range(envs))
    assert all(b - a in (0, 1) for a, b in pairwise(row))
    assert row == [j * envs // (rollouts * num_envs) for j in range(rollouts * num_envs)]


@pytest.mark.parametrize(("num_envs", "processes"), [(1, (1,)), (2, (2,)), (5, (2, 2, 1)), (6, (2, 2, 2))])
def test_processes_of_several_slots_share_them_evenly(
    monkeypatch: pytest.MonkeyPatch, num_envs: int, processes: tuple[int, ...]
) -> None:
    monkeypatch.setattr(LiberoEnv, "max_slots_per_process", staticmethod(lambda config: 2))
    config = placed_on(3, {"env": "all" if num_envs > 4 else "0", "rollout": "1", "actor": "2"}, num_envs)
    plan = plan_of(config)
    assert tuple(process.slots for process in plan.processes) == processes
    assert len(plan.env_slots[0]) == len(processes)
    if num_envs == 5:
        lines = [plan.describe().partition(f"slot {slot}: machine 0, cpu: ")[2] for slot in range(3)]
        assert [line[:12] for line in lines] == ["2 simulators", "2 simulators", "1 simulator;"]


REFUSED = [
    (
        {"env": "0-2", "rollout,actor": "3"},
        "cluster.component_placement={env: 0-2, rollout\\,actor: 3}: allowed: at most 2 env slots: rollout slots (1) "
        "times actor_rollout_ref.embodied.env.num_envs=2 make so many simulator processes, and some of 3 would have none",
    ),
    ({"env": "0", "rollout": "1"}, "actor has none"),
    ({"env,rollout,actor": "all", "embedding": "0"}, "it has no node of role embedding"),
]


@pytest.mark.parametrize(("entries", "message"), REFUSED)
def test_what_the_workflow_cannot_use_is_refused_before_and_by_the_compiler(
    entries: dict[str, str], message: str
) -> None:
    config = placed_on(4, entries)
    config.dry_run, config.algorithm.reward = True, "sparse"
    (line,) = preflight(config)
    assert message in line
    with pytest.raises(ValueError, match="the workflow cannot run") as refused:
        plan_of(config)
    assert line in str(refused.value)


def test_entries_that_cannot_be_read_are_refused_by_the_compiler_too() -> None:
    with pytest.raises(ValueError, match="4-2 goes down"):
        plan_of(placed_on(4, {"env,rollout,actor": "4-2"}))


def test_an_unknown_reward_or_env_is_told_once_and_not_by_the_placement() -> None:
    config = placed_on(4, {"env": "0-2", "rollout,actor": "3"})
    config.dry_run, config.algorithm.reward = True, "dense"
    (line,) = preflight(config)
    assert line.startswith("algorithm.reward=dense")
    config.algorithm.reward, config.actor_rollout_ref.embodied.env.env_type = "sparse", "liber"
    (line,) = preflight(config)
    assert line.startswith("actor_rollout_ref.embodied.env.env_type=liber")
