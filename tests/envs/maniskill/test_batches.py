"""The env with many slots, as on a GPU, on scenes without physics: what can be tested of it without one."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siirl.envs.maniskill
from siirl.config.schema import EnvConfig
from siirl.dag.compile import Process
from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.envs.maniskill import ManiSkillEnv
from siirl.policies.base import ActionChunk, Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from siirl.roles.slots import Ready
from siirl.workers.pool import SlotMap
from tests.envs.maniskill.conftest import episode
from tests.envs.maniskill.scenes import CountingScenes
from tests.roles.scripted import CHUNK, DIM, SeededPolicy


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """ManiSkill's scenes are replaced."""
    monkeypatch.setattr(
        siirl.envs.maniskill, "Simulator", lambda suite, config, slots, wrist: CountingScenes([99.0] * slots)
    )


def batched(slots: int) -> ManiSkillEnv:
    return ManiSkillEnv(EnvConfig(env_type="maniskill", env_name="PickCube-v1", sim_backend="gpu", num_envs=slots))


def forward(count: int, length: int = CHUNK) -> np.ndarray:
    """Every action counts one."""
    return np.ones((count, length, DIM), np.float32)


def test_a_gpu_holds_all_slots_in_one_process() -> None:
    assert batched(5).num_slots == 5
    config = EnvConfig(env_type="maniskill", env_name="PickCube-v1", num_envs=5)
    assert ManiSkillEnv(config).num_slots == ManiSkillEnv.max_slots_per_process(config) == 1


def test_a_reset_leaves_the_other_slots_alone() -> None:
    env = batched(3)
    env.reset([0, 1, 2], [episode(trial_id=90)] * 3)
    env.step([0, 1, 2], forward(3))
    obs = env.reset([1], [episode(trial_id=91)])
    assert obs.states[:, 0].tolist() == [0]
    result = env.step([2, 1, 0], forward(3))
    assert result.obs.states[:, 0].tolist() == [2 * CHUNK, CHUNK, 2 * CHUNK]
    assert result.obs.main_images[:, 0, 0, 0].tolist() == [2 * CHUNK, CHUNK, 2 * CHUNK]


def test_slots_end_one_by_one() -> None:
    env = batched(3)
    env.reset([0, 1, 2], [episode(trial_id=3), episode(trial_id=90, max_steps=2), episode(trial_id=90)])
    result = env.step([0, 1, 2], forward(3))
    assert result.executed.tolist() == [3, 2, CHUNK]
    assert result.terminated.tolist() == result.success.tolist() == [True, False, False]
    assert result.truncated.tolist() == [False, True, False]
    assert result.rewards.tolist() == [[1, 2, 3, 0], [1, 2, 0, 0], [1, 2, 3, 4]]
    assert result.obs.states[:, 0].tolist() == [3, 2, CHUNK]
    with pytest.raises(AssertionError, match="episode has ended"):
        env.step([0, 2], forward(2))


def test_a_slot_that_is_left_out_has_given_up() -> None:
    env = batched(2)
    env.reset([0, 1], [episode(trial_id=90)] * 2)
    env.step([0], forward(1))
    with pytest.raises(AssertionError, match="episode has ended"):
        env.step([0, 1], forward(2))


def test_a_bad_action_moves_nothing() -> None:
    env = batched(2)
    env.reset([0, 1], [episode(trial_id=90), episode(trial_id=91)])
    actions = forward(2)
    actions[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite action in episode PickCube-v1/0/91"):
        env.step([0, 1], actions)
    assert env.step([0, 1], forward(2)).obs.states[:, 0].tolist() == [CHUNK, CHUNK]


class Forward(SeededPolicy):
    """Every action counts one; those of trial ``nan_for`` are NaN in its second chunk."""

    def act(self, inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
        chunk = super().act(inputs, sampling)
        actions = torch.ones_like(chunk.actions)
        if self.nan_for is not None:
            actions[inputs["states"][:, 0] == self.nan_for] = float("nan")
        return ActionChunk(actions, chunk.sampled, chunk.log_probs)


class Envs(SlotMap):
    """Batched envs in this process; one call of each is answered at a time, as by Ray's actors."""

    def __init__(self, count: int, slots: int) -> None:
        super().__init__([Process(slots, lock_step=ManiSkillEnv.lock_step)] * count)
        self._envs = [batched(slots) for _ in range(count)]

    def rest(self) -> None:
        for env in self._envs:
            env.rest()

    def wait(self, block: bool) -> Sequence[Ready]:
        answers: list[Ready] = []
        for number, env in enumerate(self._envs):
            if (call := self.next_call(number, block)) is not None:
                method, slots, argument = call
                answers += self.split(number, slots, getattr(env, method)(slots, argument))
        assert answers or not block, "would wait for ever"
        return answers


def rollout(envs: int, slots: int, stages: int, lengths: list[int], policy: Forward) -> list[Trajectory]:
    specs = [EpisodeSpec("PickCube-v1", 0, n, "", 20, i, 0, 0, i) for i, n in enumerate(lengths)]
    role = Rollout(policy, Envs(envs, slots), stages)
    role.release(step=0, version=0)
    return list(role.run(EpisodeQueue(specs), Sampling(True, 1.0), after=0))


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    envs=st.integers(1, 3),
    slots=st.integers(1, 4),
    stages=st.integers(1, 2),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_rollout_steps_all_running_slots_together(lengths: list[int], envs: int, slots: int, stages: int) -> None:
    """An env refuses to step a slot that an earlier call had left out: see `test_a_slot_that_is_left_out_has_given_up`."""
    done = rollout(envs, slots, min(stages, envs * slots), lengths, Forward())
    assert sorted(t.summary.spec.group_id for t in done) == list(range(len(lengths)))
    for trajectory in done:
        length = trajectory.summary.spec.trial_id
        assert trajectory.summary.steps == min(length, 20)
        assert trajectory.summary.success == (length <= 20)
        assert trajectory.states[-1, 0] == min(length, 20), "seen when it ended, not when its chunk did"


def test_an_episode_that_is_given_up_does_not_hold_the_others_back() -> None:
    done = rollout(1, 3, 1, [20, 20, 20, 6], Forward(nan_for=CHUNK))
    assert [t.summary.drop_reason for t in done] == ["nan_action"] * 4
