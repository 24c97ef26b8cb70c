"""Runs on several slots with a simulator that costs nothing: every kind of placement trains as one slot does."""

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from siirl.client.main_dag import main
from siirl.dag.run import train
from siirl.dag.session import Session
from siirl.training.dcp import MODEL
from siirl.workers.base import WorkerLostError, Workers
from siirl.workers.ray_workers import RayWorkers
from tests.workers.runs import (
    BY_SEED,
    ENV,
    EXACT,
    GENTLE,
    INLINE,
    TOY,
    assert_trained_alike,
    command_line,
    configured,
    log_of,
    opened,
    weights_of,
)
from tests.workers.toy import plan_fault

pytestmark = pytest.mark.usefixtures("ray_cluster")

TWO, THREE = ({"cluster.num_cpu_slots_per_node": count} for count in (2, 3))
PLACE = "cluster.component_placement"
DISAGGREGATED = TWO | {PLACE: "{env: 0, rollout: 0, actor: 1}"}
APART = THREE | {PLACE: "{env: 0, rollout: 1, actor: 2}"}
HYBRID = TWO | {PLACE: "{env: 0, rollout: 1, actor: all}"}
TWO_ROLL_OUT = THREE | {PLACE: "{env: 0-1, rollout: 0-1, actor: 2}"}
LEARNS = BY_SEED | GENTLE | {"trainer.save_freq": 2, f"{ENV}.num_envs": 1}


def run(folder: Path, policy: Path, *settings: dict[str, Any]) -> list[dict[str, float]]:
    assert main(command_line(folder, policy, TOY, EXACT, LEARNS, *settings)) == 0
    return log_of(folder)


@pytest.fixture(scope="module")
def one_process(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two deterministic steps on one slot."""
    folder = tmp_path_factory.mktemp("one_process")
    run(folder, policy, INLINE, {"trainer.save_freq": 1})
    return folder


@pytest.mark.parametrize("layout", [APART, HYBRID], ids=["all apart", "hybrid"])
def test_roles_train_apart_as_on_one_slot(
    layout: dict[str, Any], one_process: Path, policy: Path, tmp_path: Path
) -> None:
    rows = run(tmp_path, policy, layout)
    assert_trained_alike(tmp_path, one_process, policy)
    assert_measured_alike(rows, log_of(one_process))
    assert all((row["weight_sync/bytes"] > 0) == (layout == APART) for row in rows)


def test_a_run_of_one_slot_goes_on_with_every_role_on_two(one_process: Path, policy: Path, tmp_path: Path) -> None:
    """Although a simulator of each prompt dies, while two rollouts share the queue. In the next update a rank dies."""
    folder = Path(shutil.copytree(one_process, tmp_path / "run"))
    shutil.rmtree(folder / "global_step_2")
    (folder / "latest_checkpointed_iteration.txt").write_text("1")
    for trial in range(5):
        plan_fault(trial, 0, "exit")
    three = {"trainer.total_training_steps": 3, "trainer.save_freq": 1}
    with opened(configured(command_line(folder, policy, TOY, EXACT, LEARNS, TWO, three))) as (
        session,
        executor,
        workers,
    ):
        a_rank_dies(session, workers, "update", step=3)
        with pytest.raises(WorkerLostError, match=r"is gone.*trainer\.resume_mode=auto"):
            train(executor.config, session, executor)
    rows = log_of(folder)
    assert [(row["step"], row["env/retries"]) for row in rows] == [(1, 0), (2, 2)]
    assert_trained_alike(folder, one_process, policy)
    assert_measured_alike(rows, log_of(one_process))
    assert [row["step"] for row in run(folder, policy, INLINE, three)] == [1, 2, 3]


def a_rank_dies(session: Session, workers: Workers, operation: str, step: int) -> None:
    """The second rank is stopped when ``update`` or ``sync`` of ``step`` begins, and killed when the others wait for it."""
    assert isinstance(workers, RayWorkers)
    process = ray.get(workers.nodes[1].__ray_call__.remote(lambda worker: os.getpid()))
    name = "sync" if operation == "sync" else "submit"
    call = getattr(workers, name)

    def calling(*arguments: Any) -> Any:
        if session.step == step and operation in ("sync", arguments[0]):
            os.kill(process, signal.SIGSTOP)
            threading.Timer(1, os.kill, (process, signal.SIGKILL)).start()
        return call(*arguments)

    setattr(workers, name, calling)


def assert_measured_alike(rows: list[dict[str, float]], alone: list[dict[str, float]]) -> None:
    for row, other in zip(rows, alone, strict=True):
        for name in ("rollout/success_rate", "rollout/episode_length", "rollout/reward_mean"):
            assert row[name] == other[name], name
        assert row["actor/rollout_train_logprob_diff"] < 1e-5, "those who act have the weights that are trained"


def test_the_next_rollout_acts_while_the_update_runs(policy: Path, tmp_path: Path) -> None:
    """A step behind, and trained on with what acted known to be older. In the last weight sync the rank that acts dies."""
    steps = {"trainer.max_staleness": 1, "trainer.deterministic": "false", "trainer.total_training_steps": 4}
    config = configured(command_line(tmp_path, policy, TOY, EXACT, LEARNS, DISAGGREGATED, steps))
    behind: set[tuple[int, int]] = set()
    with opened(config) as (session, executor, workers):
        a_rank_dies(session, workers, "sync", step=4)
        collect = executor.collect

        def noting(sampler: Any, step: int, on_start: Any) -> Any:
            batch = collect(sampler, step, on_start)
            behind.update((step, summary.weights_step) for summary in batch.summaries)
            return batch

        executor.collect = noting
        with pytest.raises(WorkerLostError, match=r"is gone.*trainer\.resume_mode=auto"):
            train(config, session, executor)
    assert {step - 1 - weights for step, weights in behind} <= {0, 1}
    assert {(1, 0), (2, 0), (3, 1)} <= behind, "steps 2 and 3 began with weights of the step before the last"
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["actor/behavior_kl"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["actor/behavior_kl"] != 0
    assert [row["step"] for row in run(tmp_path, policy, INLINE, {"trainer.total_training_steps": 4})] == [1, 2, 3, 4]


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
        assert row["filter/acceptance_rate"] == 1
        assert row["filter/gen_batches"] == 1


def test_only_adapters_are_sent(policy: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    once = {"trainer.total_training_steps": 1, "trainer.save_freq": 1, "actor_rollout_ref.model.lora_rank": 2}
    (row,) = run(tmp_path, policy, DISAGGREGATED, once)
    adapters = [tensor for name, tensor in weights_of(tmp_path, 1).items() if name.startswith(MODEL)]
    assert row["weight_sync/bytes"] == 4 * sum(tensor.numel() for tensor in adapters) > 0
    assert row["actor/rollout_train_logprob_diff"] < 1e-5
