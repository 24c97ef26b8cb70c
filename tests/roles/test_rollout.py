"""The rollout role's scheduling: every episode once, nothing after its end, the same result on any number of slots."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import ActionChunk, Sampling
from siirl.roles.rollout import MAX_RETRIES, EpisodeQueue, Rollout
from tests.roles.scripted import CHUNK, DIM, ScriptedPool, SeededPolicy, spec


def run(
    pool: ScriptedPool, specs: list[EpisodeSpec], policy: SeededPolicy | None = None, stages: int = 1
) -> list[Trajectory]:
    rollout = Rollout(policy or SeededPolicy(), pool, stages)
    return list(rollout.run(specs, Sampling(True, 1.0), version=3))


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    slots=st.integers(1, 6),
    stages=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_episode_runs_once_and_never_past_its_end(lengths: list[int], slots: int, stages: int, seed: int) -> None:
    pool, policy = ScriptedPool(slots, seed), SeededPolicy()
    done = run(pool, [spec(i, n) for i, n in enumerate(lengths)], policy, min(stages, slots))
    assert sorted(t.summary.spec.trial_id for t in done) == list(range(len(lengths)))
    assert pool.steps_after_end == 0
    for trajectory in done:
        length = trajectory.summary.spec.env_seed
        chunks = -(-length // CHUNK)
        assert trajectory.summary.steps == length == trajectory.executed.sum()
        assert trajectory.tokens.shape == (chunks, CHUNK * DIM)
        assert len(trajectory.images) == len(trajectory.states) == chunks + 1
    assert max(policy.batches) <= -(-slots // min(stages, slots))
    assert sum(policy.batches) == sum(t.summary.chunks for t in done), "a policy row was spent on a finished episode"


@given(st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_trajectories_do_not_depend_on_the_scheduling(slots: int, seed: int) -> None:
    specs = [spec(i, 3 + 5 * (i % 4)) for i in range(8)]
    alone = {t.summary.spec: t for t in run(ScriptedPool(1), specs)}
    for trajectory in run(ScriptedPool(slots, seed), specs):
        np.testing.assert_array_equal(trajectory.tokens, alone[trajectory.summary.spec].tokens)
        np.testing.assert_array_equal(trajectory.states, alone[trajectory.summary.spec].states)


def test_a_trajectory_keeps_what_the_policy_sampled() -> None:
    class Continuous(SeededPolicy):
        """Samples the actions themselves."""

        def act(self, inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
            chunk = super().act(inputs, sampling)
            return replace(chunk, sampled=chunk.sampled.float() / 256)

    (trajectory,) = run(ScriptedPool(1), [spec(0)], Continuous())
    assert trajectory.tokens.dtype == np.float32
    assert ((trajectory.tokens > 0) & (trajectory.tokens < 1)).any()


def test_truncation_is_not_success() -> None:
    (trajectory,) = run(ScriptedPool(1), [spec(0, length=50, max_steps=10)])
    assert trajectory.summary.truncated
    assert not trajectory.summary.success
    assert trajectory.summary.steps == 10


def test_an_episode_whose_simulator_died_runs_again_and_is_counted() -> None:
    done = run(ScriptedPool(2, dies={1: 2}), [spec(i) for i in range(4)])
    assert {t.summary.spec.trial_id: t.summary.retries for t in done} == {0: 0, 1: 2, 2: 0, 3: 0}
    assert all(t.summary.success for t in done)


def test_a_simulator_that_always_dies_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match=r"suite/0/1 died 4 times.*scripted death"):
        run(ScriptedPool(2, dies={1: MAX_RETRIES + 1}), [spec(i) for i in range(4)])


@pytest.mark.parametrize("policy", [SeededPolicy(nan_for=2), SeededPolicy(nan_log_prob_for=2)])
def test_actions_or_log_probs_that_are_not_finite_drop_the_episode_alone(policy: SeededPolicy) -> None:
    done = run(ScriptedPool(2), [spec(i) for i in range(4)], policy)
    assert {t.summary.spec.trial_id: t.summary.drop_reason for t in done} == {
        0: None,
        1: None,
        2: "nan_action",
        3: None,
    }


def test_observations_that_are_not_finite_drop_the_episode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.roles.scripted as scripted

    good = scripted.observation

    def sometimes_nan(name: int, step: int) -> object:
        obs = good(name, step)
        if name == 1 and step >= CHUNK:
            obs.states[:] = np.nan
        return obs

    monkeypatch.setattr(scripted, "observation", sometimes_nan)
    done = {t.summary.spec.trial_id: t for t in run(ScriptedPool(2), [spec(i) for i in range(3)])}
    assert done[1].summary.drop_reason == "nan_observation"
    assert not done[1].summary.success
    assert done[1].summary.steps == CHUNK
    assert done[0].summary.success
    assert done[2].summary.success


def test_a_slot_prefers_the_task_that_it_holds() -> None:
    queue = EpisodeQueue([spec(0, task=0), spec(1, task=1), spec(2, task=0)])
    taken = [queue.take(("suite", 0)), queue.take(("suite", 0)), queue.take(("suite", 0)), queue.take(None)]
    assert [s.trial_id if s else None for s in taken] == [0, 2, 1, None]
