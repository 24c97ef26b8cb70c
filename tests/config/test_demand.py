"""What one machine must hold, from the estimate of the whole run."""

import pytest

from siirl.config.demand import checkpoint_gib, demand
from siirl.config.estimate import estimate_rows
from siirl.config.schema import Config


def sums(config: Config) -> dict[str, float]:
    rows = estimate_rows(config)
    return {where: sum(row.gib for row in rows if row.where == where) for where in {row.where for row in rows}}


def test_on_cpu_slots_everything_is_the_machines() -> None:
    config = Config()
    config.cluster.num_cpu_slots_per_node = 2
    parts = sums(config)
    assert set(parts) == {"slot", "machine", "cluster"}
    found = demand(config)
    assert found.device == 0
    assert found.host == pytest.approx(2 * parts["slot"] + parts["machine"] + parts["cluster"])


def test_on_accelerators_the_fullest_slot_counts() -> None:
    config = Config()
    config.trainer.nnodes, config.trainer.n_gpus_per_node = 2, 4
    config.cluster.component_placement = {"env": "0-3", "rollout": "3-5", "actor": "5-7"}
    parts = sums(config)
    found = demand(config)
    assert found.device == parts["slot of rollout+embedding+actor"]
    assert found.device > parts["slot of actor"] > 0
    assert found.host == pytest.approx(parts["machine with the most simulators"] + parts["cluster"] / 2)


def test_machines_with_other_slots_differ_and_the_fullest_counts() -> None:
    config = Config()
    config.trainer.nnodes = 2
    config.cluster.component_placement = {"env,rollout": "0", "actor": "1"}
    parts = sums(config)
    assert demand(config).host == pytest.approx(
        max(parts["slot of rollout+embedding"], parts["slot of actor"])
        + parts["machine with the most simulators"]
        + parts["cluster"] / 2
    )


def test_a_checkpoint_holds_what_is_trained_and_its_moments() -> None:
    config = Config()
    whole = checkpoint_gib(config)
    assert 7e9 * 12 / 2**30 < whole < 8e9 * 12 / 2**30, "the published 7B, where no folder is named"
    config.actor_rollout_ref.model.lora_rank = 32
    assert checkpoint_gib(config) < whole / 50
