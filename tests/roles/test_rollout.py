"""The rollout role's scheduling: every episode once, nothing after its end, the same result on any number of slots."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import ActionChunk, Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import MAX_RETRIES, Rollout
from tests.policies.tiny import INSTRUCTIONS, tiny_policy
from tests.roles.scripted import CHUNK, DIM, DriftingPool, ScriptedPool, SeededPolicy, TimedPool, spec


def run(
    pool: ScriptedPool, specs: list[EpisodeSpec], policy: SeededPolicy | None = None, stages: int = 1
) -> list[Trajectory]:
    rollout = Rollout(policy or SeededPolicy(), pool, stages)
    rollout.release(step=0, version=3)
    return list(rollout.run(EpisodeQueue(specs), Sampling(True, 1.0), after=0))


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


@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2)), min_size=1, max_size=12),
    deaths=st.dictionaries(st.integers(0, 11), st.integers(1, MAX_RETRIES), max_size=4),
    slots=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_episode_comes_once_whatever_dies(
    lengths: list[tuple[int, int]], deaths: dict[int, int], slots: int, seed: int
) -> None:
    pool = ScriptedPool(slots, seed, deaths)
    specs = [spec(i, length, task) for i, (length, task) in enumerate(lengths)]
    done = run(pool, specs)
    assert sorted(t.summary.spec.trial_id for t in done) == list(range(len(lengths)))
    assert all(t.summary.retries == deaths.get(t.summary.spec.trial_id, 0) for t in done)
    assert all(t.summary.steps == t.summary.spec.env_seed for t in done), "a step of a lost attempt was kept"
    assert len(pool.started) == len(lengths) + sum(t.summary.retries for t in done)


def test_trajectories_of_a_network_are_the_same_bits_on_any_number_of_slots() -> None:
    specs = [replace(spec(i, 5 + 6 * (i % 4)), instruction=INSTRUCTIONS[i % 2]) for i in range(8)]

    def bits(slots: int) -> dict[EpisodeSpec, list[bytes]]:
        rollout = Rollout(tiny_policy(), DriftingPool(slots, seed=slots), deterministic=True)
        rollout.release(0, 0)
        done = rollout.run(EpisodeQueue(specs), Sampling(True, 1.0), after=0)
        return {
            t.summary.spec: [a.tobytes() for a in (t.images, t.states, t.tokens, t.log_probs, t.executed)] for t in done
        }

    alone = bits(1)
    assert len(alone) == len(specs)
    assert len({tuple(parts) for parts in alone.values()}) == len(specs), "episodes that do not differ show nothing"
    for slots in (2, 3, 5):
        assert bits(slots) == alone


class SlowPolicy(SeededPolicy):
    """Takes ``seconds`` per row of the pool's clock."""

    def __init__(self, pool: TimedPool, seconds: float) -> None:
        super().__init__()
        self._pool, self._seconds = pool, seconds

    def act(self, inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
        self._pool.now += self._seconds * len(sampling.seeds)
        return super().act(inputs, sampling)


def test_two_stages_act_and_simulate_at_the_same_time() -> None:
    """Where one stage of 4 rows takes the policy as long as the simulators: 8 rows, then the simulators, is 3 units in turns,
    and 2 where one half simulates while the policy acts on the other."""

    def seconds(stages: int) -> float:
        pool = TimedPool(8, seconds=1.0)
        run(pool, [spec(i, length=20 * CHUNK, max_steps=20 * CHUNK) for i in range(8)], SlowPolicy(pool, 0.25), stages)
        return pool.now

    assert seconds(1) / seconds(2) == pytest.approx(1.5, rel=0.05)


def test_the_time_that_slots_were_busy_while_episodes_waited_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = TimedPool(2, seconds=3.0)
    monkeypatch.setattr("time.monotonic", lambda: pool.now)
    rollout = Rollout(SlowPolicy(pool, 0.5), pool)
    rollout.release(0, 0)
    list(rollout.run(EpisodeQueue([spec(i, CHUNK) for i in range(6)]), Sampling(True, 1.0), after=0))
    stats = rollout.stats()
    assert stats["seconds_acting"] == 3.0
    # three rounds of: reset 3 s, act on both rows 1 s, step 3 s; the last two episodes are taken at the end of the second
    assert stats["busy_slot_seconds"] == 3 * 2 * (3 + 3)
    assert stats["slot_seconds_while_waiting"] == 2 * 2 * (3 + 1 + 3)
    assert stats["busy_slot_seconds_while_waiting"] == 2 * 2 * (3 + 3)
