"""From a plan to node workers: who hosts what, in which order they join, and who shares a machine."""

import pytest

from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.workers.env_worker import visible_gpu
from siirl.workers.seats import Seat, seats


def seated(
    placement: dict[str, str] | None, slots: int, nodes: int = 1, num_envs: int = 2, **trainer: object
) -> list[Seat]:
    config = Config()
    config.cluster.component_placement, config.cluster.num_cpu_slots_per_node = placement, slots
    config.trainer.nnodes = nodes
    config.actor_rollout_ref.embodied.env.num_envs = num_envs
    for name, value in trainer.items():
        setattr(config.trainer, name, value)
    return seats(compile_plan(build_graph(config), config))


def test_actors_come_first_and_the_rest_by_slot() -> None:
    found = seated({"env": "0", "rollout": "0,2", "actor": "1,3"}, 4)
    assert [(seat.slot.index, seat.rank) for seat in found] == [(1, 0), (3, 1), (0, 2), (2, 3)]
    assert [sorted(seat.roles) for seat in found] == [["actor"], ["actor"], *[["embedding", "rollout"]] * 2]
    assert {(seat.world, seat.actors) for seat in found} == {(4, 2)}
    assert [[(slot.index, process.slots) for slot, process in seat.envs] for seat in found] == [
        [],
        [],
        *[[(0, 1), (0, 1)]] * 2,
    ]


def test_simulators_render_on_the_accelerator_of_their_slot() -> None:
    found = seated({"env": "1-2,4", "rollout": "0", "actor": "5"}, 1, nodes=2, n_gpus_per_node=3, num_envs=4)
    (rollout,) = [seat for seat in found if seat.envs]
    assert [(slot.machine, visible_gpu(slot.device)) for slot, _ in rollout.envs] == [
        (0, "1"),
        (0, "1"),
        (0, "2"),
        (1, "1"),
    ]


def test_who_only_embeds_holds_no_weights() -> None:
    found = seated({"env,rollout,actor": "0", "embedding": "1"}, 2)
    assert [(seat.rank, seat.world) for seat in found] == [(0, 1), (None, 1)]


def test_without_an_actor_nothing_is_exchanged() -> None:
    found = seated({"env,rollout": "all"}, 2, val_only=True)
    assert [(seat.rank, seat.world, seat.actors) for seat in found] == [(None, 0, 0)] * 2


@pytest.mark.parametrize(("nodes", "share"), [(1, 0.5), (2, 1.0)])
def test_workers_share_the_cores_of_their_machine(nodes: int, share: float) -> None:
    assert {seat.share for seat in seated(None, 2 // nodes, nodes)} == {share}
