"""Whole runs on real LIBERO with Ray: what they log, that timing and backend change nothing, and simulators that fail."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from siirl.client.main_dag import main
from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import Sampling
from siirl.workers.ray_workers import RayWorkers
from tests.workers.runs import (
    BY_SEED,
    ENV,
    EXACT,
    INLINE,
    assert_same_weights,
    command_line,
    configured,
    log_of,
    started,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")

VALIDATING = {
    "trainer.test_freq": 2,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": "false",
    "actor_rollout_ref.rollout.val_kwargs.n": 1,
}


@pytest.fixture(scope="module")
def exact_run(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two deterministic steps on Ray, with two simulators."""
    folder = tmp_path_factory.mktemp("exact")
    assert main(command_line(folder, policy, EXACT, BY_SEED, VALIDATING)) == 0
    return folder


def test_a_run_logs_what_is_documented(exact_run: Path) -> None:
    rows = log_of(exact_run)
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        for name in (
            *("rollout/success_rate", "rollout/reward_mean", "rollout/episode_length", "env/success_once"),
            *("actor/loss", "actor/grad_norm", "actor/lr", "actor/entropy", "actor/approx_kl"),
            *("filter/acceptance_rate", "time/rollout", "time/update", "time/checkpoint", "time/step"),
        ):
            assert name in row, name
        assert row["rollout/episode_length"] == 16
        assert row["env/retries"] == 0
        assert 0 <= row["actor/clip_fraction"] <= 1
        assert row["actor/grad_norm"] > 0
        assert row["actor/rollout_train_logprob_diff"] < 1e-4
        assert row["time/unaccounted"] < 0.2
        assert row["checkpoint/failed"] == 0
    assert "val/success_rate/libero_spatial_0" in rows[1]
    assert "val/success_rate" not in rows[0]
    assert (exact_run / "latest_checkpointed_iteration.txt").read_text().strip() == "2"


def test_one_process_and_a_resumption_give_the_same_weights(exact_run: Path, policy: Path, tmp_path: Path) -> None:
    for steps in (1, 2):
        stop = {"trainer.total_training_steps": steps}
        assert main(command_line(tmp_path, policy, EXACT, BY_SEED, VALIDATING, INLINE, stop)) == 0
    assert_same_weights(weights_of(tmp_path, 1), weights_of(exact_run, 1))
    assert_same_weights(weights_of(tmp_path, 2), weights_of(exact_run, 2))


@pytest.fixture(scope="module")
def workers(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayWorkers]:
    """Workers with two simulators that may take 30 s for a call: more than building one takes."""
    config = configured(command_line(tmp_path_factory.mktemp("faults"), policy, EXACT, {f"{ENV}.step_timeout": 30}))
    with started(config) as (_, workers):
        assert isinstance(workers, RayWorkers)
        workers.sync(0)
        yield workers


SPECS = [
    EpisodeSpec("libero_spatial", 0, trial, "pick it up", 40, group_id=0, index=0, env_seed=trial, action_seed=trial)
    for trial in range(4)
]


def roll_out(workers: RayWorkers, kill_after_first: int | None = None) -> dict[int, Trajectory]:
    """Trial → trajectory; after the first of them, a process is killed, while two others are under way."""
    found = {}
    for episode in workers.rollout(SPECS, Sampling(True, 1.0), keep=True, after=0, expected_steps={}):
        if not found and kill_after_first is not None:
            os.kill(kill_after_first, signal.SIGKILL)
        found[episode.summary.spec.trial_id] = ray.get(episode.trajectory)
    return found


@pytest.fixture(scope="module")
def undisturbed(workers: RayWorkers) -> dict[int, Trajectory]:
    return roll_out(workers)


def test_the_episode_of_a_simulator_that_dies_is_run_again(
    workers: RayWorkers, undisturbed: dict[int, Trajectory]
) -> None:
    process = ray.get(workers.envs[0].pid.remote())
    disturbed = roll_out(workers, kill_after_first=process)
    assert sum(t.summary.retries for t in disturbed.values()) == 1
    assert ray.get(workers.envs[0].pid.remote()) != process
    assert disturbed.keys() == undisturbed.keys() == {0, 1, 2, 3}
    for trial, trajectory in undisturbed.items():
        np.testing.assert_array_equal(disturbed[trial].tokens, trajectory.tokens)
        np.testing.assert_array_equal(disturbed[trial].states, trajectory.states)
        np.testing.assert_array_equal(disturbed[trial].images, trajectory.images)
