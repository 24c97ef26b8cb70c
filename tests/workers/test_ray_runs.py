"""Whole runs on Ray with a simulator that costs nothing: resuming, the inline backend, streaming, failing workers."""

import itertools
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from siirl.client.main_dag import main
from siirl.dag.run import train
from siirl.dag.session import Session
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.workers.base import WorkerLostError
from siirl.workers.ray_workers import RayWorkers, stream_episodes
from tests.workers.runs import (
    ENV,
    EXACT,
    INLINE,
    TOY,
    assert_same_weights,
    command_line,
    configured,
    log_of,
    opened,
    weights_of,
    without_times,
)
from tests.workers.toy import plan_fault

pytestmark = pytest.mark.usefixtures("ray_cluster")

SRPO = {"algorithm.reward": "srpo"}
EPISODES = 4
"""In a step of these runs."""


@pytest.fixture(scope="module")
def four_steps(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four deterministic steps of SRPO at once, with two simulators."""
    folder = tmp_path_factory.mktemp("four")
    assert main(command_line(folder, policy, TOY, EXACT, SRPO, {"trainer.total_training_steps": 4})) == 0
    return folder


def test_a_resumed_run_ends_with_the_same_weights_and_metrics(four_steps: Path, policy: Path, tmp_path: Path) -> None:
    """It was killed in step 4, before the checkpoint of step 3 was complete."""
    folder = Path(shutil.copytree(four_steps, tmp_path / "run"))
    for step in (3, 4):
        shutil.rmtree(folder / f"global_step_{step}")
    (folder / "latest_checkpointed_iteration.txt").write_text("2")
    assert main(command_line(folder, policy, TOY, EXACT, SRPO, {"trainer.total_training_steps": 4})) == 0
    halfway, end = weights_of(folder, 2), weights_of(folder, 4)
    assert any(not halfway[name].equal(end[name]) for name in halfway if name.startswith("model."))
    assert_same_weights(end, weights_of(four_steps, 4))
    assert without_times(log_of(folder)) == without_times(log_of(four_steps))


def test_one_process_without_ray_gives_the_same_weights(four_steps: Path, policy: Path, tmp_path: Path) -> None:
    stop = {"trainer.total_training_steps": 4}
    assert main(command_line(tmp_path, policy, TOY, EXACT, SRPO, INLINE, stop)) == 0
    assert any(0 < row["rollout/success_rate"] < row["rollout/reward_mean"] for row in log_of(tmp_path))
    assert_same_weights(weights_of(tmp_path, 4), weights_of(four_steps, 4))
    assert without_times(log_of(tmp_path)) == without_times(log_of(four_steps))


def test_a_run_that_only_validates_does_so_on_several_slots_as_in_one_process(policy: Path, tmp_path: Path) -> None:
    only = {"trainer.val_only": "true", f"{ENV}.num_holdout_trials": 6, "algorithm.reward": "srpo"}
    for name, backend in (("ray", {"cluster.num_cpu_slots_per_node": 2}), ("inline", INLINE)):
        assert main(command_line(tmp_path / name, policy, TOY, EXACT, only, backend)) == 0
    (row,) = log_of(tmp_path / "ray")
    assert row["step"] == 0
    assert row["val/dropped"] == 0
    assert without_times([row]) == without_times(log_of(tmp_path / "inline"))
    assert not list((tmp_path / "ray").glob("global_step_*"))


def test_simulators_that_die_and_hang_change_nothing_but_the_count(
    four_steps: Path, policy: Path, tmp_path: Path
) -> None:
    """Nor does it matter that the three slots are of two processes, and that the two of one die together."""
    for trial in range(5):
        plan_fault(trial, 8, "exit")
    faults = [plan_fault(0, 0, "hang")]
    short = {f"{ENV}.step_timeout": 15, "trainer.total_training_steps": 2}
    three = {f"{ENV}.env_type": "toy_pair", f"{ENV}.num_envs": 3}
    assert main(command_line(tmp_path, policy, TOY, EXACT, SRPO, short, three)) == 0
    assert not any(fault.exists() for fault in faults)
    rows = log_of(tmp_path)
    assert sum(row["env/retries"] for row in rows) >= 3
    assert_same_weights(weights_of(tmp_path, 2), weights_of(four_steps, 2))


def test_groups_are_embedded_while_the_rollout_goes_on(policy: Path, tmp_path: Path) -> None:
    """On a slot of their own."""
    settings = SRPO | {
        "cluster.num_cpu_slots_per_node": 2,
        "cluster.component_placement": "{env: 0, rollout: 0, actor: 0, embedding: 1}",
        f"{ENV}.env_name": "toy_slow",
        "data.train_batch_size": 5,
        "trainer.total_training_steps": 1,
        "trainer.save_freq": -1,
    }
    embedded: list[ray.ObjectRef] = []
    ready_at_episode: list[int] = []

    def count_ready(_: object) -> None:
        ready_at_episode.append(len(ray.wait(embedded, num_returns=len(embedded), timeout=0)[0]) if embedded else 0)

    with opened(configured(command_line(tmp_path, policy, TOY, settings)), count_ready) as (session, executor, workers):
        submit = workers.submit

        def remember(operation: str, *arguments: object) -> object:
            future = submit(operation, *arguments)
            if operation == "embed":
                embedded.append(future.references[0])
            return future

        workers.submit = remember
        train(executor.config, session, executor)
    assert len(embedded) == 5
    assert len(ready_at_episode) == 10
    assert ready_at_episode[-1] >= 1, "no embedding was ready when the last episode ended"
    (row,) = log_of(tmp_path)
    assert row["actor/rollout_train_logprob_diff"] < 0.02, "with model.dtype=bf16"


def test_an_error_in_a_simulator_ends_the_run_as_itself(policy: Path, tmp_path: Path) -> None:
    fault = plan_fault(0, 8, "error")
    everything = {"data.train_batch_size": 5}
    with pytest.raises(ArithmeticError, match="the toy broke") as raised:
        main(command_line(tmp_path, policy, TOY, everything))
    assert not fault.exists()
    assert "toy.py" in str(raised.value.__cause__), "the worker's own traceback is shown"


def test_a_dead_node_worker_ends_the_run_and_the_next_one_goes_on(policy: Path, tmp_path: Path) -> None:
    config = configured(command_line(tmp_path, policy, TOY, EXACT, {"trainer.total_training_steps": 3}))

    episodes = itertools.count(1)

    def kill(_: object) -> None:
        if next(episodes) == EPISODES + 1:
            wait_for_step(session, 2)
            ray.kill(workers.nodes[0])

    with pytest.raises(WorkerLostError, match=r"trainer\.resume_mode=auto"):
        with opened(config, kill) as (session, executor, workers):
            train(config, session, executor)
    assert [row["step"] for row in log_of(tmp_path)] == [1]
    assert main(command_line(tmp_path, policy, TOY, EXACT, INLINE, {"trainer.total_training_steps": 3})) == 0
    assert [row["step"] for row in log_of(tmp_path)] == [1, 2, 3]


class Dying:
    """A node worker that is gone before its first trajectory has arrived."""

    def run(self, *_: object) -> Iterator[str]:
        """See `siirl.workers.node_worker.NodeWorker.run`."""
        yield "a summary"
        os._exit(1)


def test_an_error_is_not_taken_for_a_trajectory() -> None:
    stream = stream_episodes(
        [ray.remote(Dying).options(num_cpus=0).remote()], EpisodeQueue([]), Sampling(True, 1.0), True, 0
    )
    with pytest.raises(WorkerLostError, match=r"is gone.*trainer\.resume_mode=auto"):
        list(stream)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run_which_stops_its_processes(policy: Path, tmp_path: Path) -> None:
    config = configured(command_line(tmp_path, policy, TOY, EXACT, {"trainer.total_training_steps": 3}))

    episodes = itertools.count()

    def limit(_: object) -> None:
        """Files of more than 64 kB cannot be written in step 2."""
        step = 1 + next(episodes) // EPISODES
        wait_for_step(session, step)
        size = 65536 if step == 2 else resource.RLIM_INFINITY
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with opened(config, limit) as (session, executor, workers):
        assert isinstance(workers, RayWorkers)
        process = ray.get(workers.nodes[0].__ray_call__.remote(lambda worker: os.getpid()))
        processes = [process, *ray.get([env.pid.remote() for env in workers.envs])]
        train(config, session, executor)
    assert [row["checkpoint/failed"] for row in log_of(tmp_path)] == [0, 1, 0]
    assert sorted(path.name for path in tmp_path.glob("global_step_*")) == ["global_step_1", "global_step_3"]
    for process in processes:
        wait_until_gone(process)


def wait_for_step(session: Session, step: int) -> None:
    """A rollout may start, and in fact end, before its step begins."""
    while session.step < step:
        time.sleep(0.01)


def wait_until_gone(process: int) -> None:
    """A run leaves no process of its own behind."""
    for _ in range(300):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)
    pytest.fail(f"process {process} outlived its run")
