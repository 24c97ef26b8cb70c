"""Runs on several slots with a simulator that costs nothing: every kind of placement trains as one slot does."""

from pathlib import Path
from typing import Any

import pytest

from siirl.client.main_dag import main
from siirl.dag.run import train
from tests.workers.runs import (
    BY_SEED,
    ENV,
    EXACT,
    GENTLE,
    TOY,
    assert_trained_alike,
    command_line,
    configured,
    log_of,
    opened,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")

TWO, THREE = ({"cluster.num_cpu_slots_per_node": count} for count in (2, 3))
PLACE = "cluster.component_placement"
COLLOCATED = TWO
DISAGGREGATED = TWO | {PLACE: "{env: 0, rollout: 0, actor: 1}"}
APART = THREE | {PLACE: "{env: 0, rollout: 1, actor: 2}"}
HYBRID = TWO | {PLACE: "{env: 0, rollout: 1, actor: all}"}
TWO_ROLL_OUT = THREE | {PLACE: "{env: 0-1, rollout: 0-1, actor: 2}"}
TWO_TRAIN = THREE | {PLACE: "{env: 2, rollout: 2, actor: [0, 1]}"}
LAYOUTS = {
    "collocated": COLLOCATED,
    "disaggregated": DISAGGREGATED,
    "all apart": APART,
    "hybrid": HYBRID,
    "two roll out": TWO_ROLL_OUT,
    "two train": TWO_TRAIN,
}
LEARNS = BY_SEED | GENTLE | {"trainer.save_freq": 2, f"{ENV}.num_envs": 1}


def run(folder: Path, policy: Path, *settings: dict[str, Any]) -> list[dict[str, float]]:
    assert main(command_line(folder, policy, TOY, EXACT, LEARNS, *settings)) == 0
    return log_of(folder)


@pytest.fixture(scope="module")
def one_slot(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two deterministic steps on one slot."""
    folder = tmp_path_factory.mktemp("one_slot")
    run(folder, policy)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_placement_trains_as_one_slot_does(layout: str, one_slot: Path, policy: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, policy, LAYOUTS[layout])
    assert_trained_alike(tmp_path, one_slot, policy)
    for row, alone in zip(rows, log_of(one_slot), strict=True):
        for name in ("rollout/success_rate", "rollout/episode_length", "rollout/reward_mean"):
            assert row[name] == alone[name], name
        assert row["actor/rollout_train_logprob_diff"] < 1e-5, "those who act have the weights that are trained"
        sends = layout in ("disaggregated", "all apart", "two roll out", "two train")
        assert (row["weight_sync/bytes"] > 0) == sends


def test_a_run_goes_on_with_another_placement(one_slot: Path, policy: Path, tmp_path: Path) -> None:
    run(tmp_path, policy, {"trainer.total_training_steps": 1})
    run(tmp_path, policy, COLLOCATED)
    assert_trained_alike(tmp_path, one_slot, policy)


def test_the_next_rollout_acts_while_the_update_runs(policy: Path, tmp_path: Path) -> None:
    """A step behind, and trained on with what acted known to be older."""
    steps = {"trainer.max_staleness": 1, "trainer.deterministic": "false", "trainer.total_training_steps": 3}
    config = configured(command_line(tmp_path, policy, TOY, EXACT, LEARNS, DISAGGREGATED, steps))
    behind: set[tuple[int, int]] = set()
    with opened(config) as (session, executor, _):
        collect = executor.collect

        def noting(sampler: Any, step: int, on_start: Any) -> Any:
            batch = collect(sampler, step, on_start)
            behind.update((step, summary.weights_step) for summary in batch.summaries)
            return batch

        executor.collect = noting
        train(config, session, executor)
    assert {step - 1 - weights for step, weights in behind} == {0, 1}, (
        "new weights are taken up in the middle of a rollout"
    )
    assert {(1, 0), (2, 0), (3, 1)} <= behind
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["actor/behavior_kl"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["actor/behavior_kl"] != 0


def test_oversampled_groups_that_are_not_needed_are_cancelled(policy: Path, tmp_path: Path) -> None:
    settings = {
        f"{ENV}.env_name": "toy_slow",
        f"{ENV}.num_envs": 2,
        "trainer.deterministic": "false",
        "data.train_batch_size": 2,
        "algorithm.embodied_sampling.filter_accuracy": "true",
        "algorithm.embodied_sampling.accuracy_lower_bound": 0,
        "algorithm.embodied_sampling.accuracy_upper_bound": 1,
        "algorithm.embodied_sampling.oversample_factor": 2.5,
    }
    first = {"dag.custom_pipeline_fn": "null", "algorithm.reward": "sparse"}
    rows = run(tmp_path, policy, TWO_ROLL_OUT, settings, first)
    assert sum(row["rollout/cancelled_episodes"] for row in rows) >= 1
    for row in rows:
        assert row["rollout/cancelled_steps"] <= 24 * row["rollout/cancelled_episodes"]
        assert row["filter/gen_batches"] == 1


def test_only_adapters_are_sent(policy: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    once = {"trainer.total_training_steps": 1, "trainer.save_freq": -1}
    (whole,) = run(tmp_path / "whole", policy, DISAGGREGATED, once)
    lora = {"actor_rollout_ref.model.lora_rank": 2}
    (adapters,) = run(tmp_path / "adapters", policy, DISAGGREGATED, once, lora)
    assert 0 < adapters["weight_sync/bytes"] < 0.5 * whole["weight_sync/bytes"]
    assert adapters["actor/rollout_train_logprob_diff"] < 1e-5
