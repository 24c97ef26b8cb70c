"""The environment on the real simulator: one env for all tests, because building it takes seconds."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.base import ENVS, StepResult
from siirl.envs.maniskill import ManiSkillEnv
from siirl.envs.maniskill.expert import SPEED, PickCube

from .conftest import episode

pytestmark = pytest.mark.usefixtures("drawing")
CHUNK = 8
CONFIG = EnvConfig(env_type="maniskill", env_name="PickCube-v1", image_size=64)


@pytest.fixture(scope="module")
def env(drawing: None) -> Iterator[ManiSkillEnv]:
    with closing(ManiSkillEnv(CONFIG)) as env:
        yield env


def scene(env: ManiSkillEnv) -> Any:
    """ManiSkill's own environment."""
    assert env._simulator is not None
    return env._simulator.env


@pytest.fixture(scope="module")
def solution(env: ManiSkillEnv) -> np.ndarray:
    """The expert's actions [L, 7] that solve `episode()`, the last of which succeeds."""
    env.reset([0], [episode()])
    taken = []
    for action in PickCube(scene(env)).actions():
        taken.append(action)
        if env.step([0], action[None, None]).success[0]:
            return np.stack(taken)
    pytest.fail("an expert without end ends with the episode")


def test_the_expert_keeps_its_speed(solution: np.ndarray) -> None:
    assert np.abs(solution[:, :3]).max() == pytest.approx(SPEED)


def play(env: ManiSkillEnv, actions: np.ndarray) -> list[StepResult]:
    """Execute chunks until the actions or the episode end."""
    results = []
    for start in range(0, len(actions), CHUNK):
        results.append(env.step([0], actions[None, start : start + CHUNK]))
        if results[-1].terminated[0] or results[-1].truncated[0]:
            break
    return results


def padded(actions: np.ndarray) -> np.ndarray:
    """Actions to a whole number of chunks and one more chunk."""
    return np.concatenate([actions, np.zeros((-len(actions) % CHUNK + CHUNK, 7), np.float32)])


def test_registered_under_its_name() -> None:
    assert ENVS.get("maniskill") is ManiSkillEnv


def test_success_ends_the_episode_within_a_chunk(env: ManiSkillEnv, solution: np.ndarray) -> None:
    env.reset([0], [episode()])
    results = play(env, padded(solution))
    last = results[-1]
    assert last.success[0]
    assert last.terminated[0]
    assert not last.truncated[0]
    assert sum(r.executed[0] for r in results) == len(solution)
    assert last.executed[0] == (len(solution) - 1) % CHUNK + 1
    assert not any(r.success[0] for r in results[:-1])


def test_rewards_are_dense_and_at_most_one(env: ManiSkillEnv, solution: np.ndarray) -> None:
    env.reset([0], [episode()])
    results = play(env, padded(solution))
    rewards = np.concatenate([r.rewards[0, : r.executed[0]] for r in results])
    assert len(rewards) == len(solution)
    assert (rewards > 0).all()
    assert rewards[-1] == 1, "success"
    assert rewards.max() == 1
    assert np.corrcoef(rewards, np.arange(len(rewards)))[0, 1] > 0.8, "they rise towards the goal"
    assert not results[-1].rewards[0, results[-1].executed[0] :].any()


def test_success_at_the_last_allowed_step_is_no_truncation(env: ManiSkillEnv, solution: np.ndarray) -> None:
    env.reset([0], [episode(max_steps=len(solution))])
    last = play(env, padded(solution))[-1]
    assert last.success[0]
    assert not last.truncated[0]


def test_contacts_are_reproduced_bit_by_bit(env: ManiSkillEnv, solution: np.ndarray) -> None:
    """Also from the middle of another grasp on."""
    first = [env.reset([0], [episode()]), *(r.obs for r in play(env, solution))]
    env.reset([0], [episode(trial_id=9)])
    play(env, np.roll(solution, 7, axis=0))
    env.reset([0], [episode()])
    play(env, solution[: 3 * CHUNK - 4])
    again = [env.reset([0], [episode()]), *(r.obs for r in play(env, solution))]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.states, b.states)
        np.testing.assert_array_equal(a.main_images, b.main_images)


def test_the_trial_is_the_seed_and_env_seed_changes_nothing(env: ManiSkillEnv) -> None:
    from dataclasses import replace

    first = env.reset([0], [episode()])
    same = env.reset([0], [replace(episode(), env_seed=8)])
    other = env.reset([0], [episode(trial_id=6)])
    np.testing.assert_array_equal(first.main_images, same.main_images)
    assert (first.main_images != other.main_images).any()


def test_only_cameras_that_are_looked_through_are_rendered(
    env: ManiSkillEnv, solution: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where ManiSkill's cameras take pictures."""
    from mani_skill.sensors.camera import Camera

    taken: list[str] = []
    original = Camera.capture
    monkeypatch.setattr(Camera, "capture", lambda self: (taken.append(self.config.uid), original(self))[1])
    env.reset([0], [episode()])
    assert taken == ["base_camera"]
    play(env, solution[: 2 * CHUNK])
    assert taken == ["base_camera"] * 3


def test_cube_and_goal_can_be_seen(env: ManiSkillEnv) -> None:
    """ManiSkill hides the goal from its cameras, but a policy that sees has no other way to know it."""
    seen = [env.reset([0], [episode(trial_id=trial)]).main_images[0].astype(int) for trial in range(8)]
    red = [int(((i[..., 0] > 120) & (i[..., 1] < 40) & (i[..., 2] < 40)).sum()) for i in seen]
    green = [int(((i[..., 1] > 100) & (i[..., 0] < 60) & (i[..., 2] < 60)).sum()) for i in seen]
    assert np.median(red) >= 4
    assert np.median(green) >= 4


def test_states_are_the_tool_and_the_fingers(env: ManiSkillEnv) -> None:
    obs = env.reset([0], [episode()])
    agent = scene(env).agent
    np.testing.assert_allclose(obs.states[0, :3], agent.tcp.pose.p[0], atol=1e-6)
    np.testing.assert_allclose(obs.states[0, 6:], 0.04, atol=1e-3)
    assert abs(np.linalg.norm(obs.states[0, 3:6]) - np.pi) < 0.2, "the gripper points down: half a turn"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_units_of_position(env: ManiSkillEnv, axis: int) -> None:
    """An action of 1 moves the goal by 10 cm, of which an arm from rest makes a part in one step; small ones add up."""
    before = env.reset([0], [episode()]).states[0]
    actions = np.zeros((1, 20, 7), np.float32)
    actions[0, :10, axis] = 0.1
    actions[..., 6] = 1
    moved = env.step([0], actions).obs.states[0, :3] - before[:3]
    assert 0.02 < moved[axis] < 0.11
    assert np.abs(np.delete(moved, axis)).max() < 0.02


def test_sign_of_rotation(env: ManiSkillEnv) -> None:
    """ManiSkill turns against the axis: see docs/maniskill.md."""
    env.reset([0], [episode()])
    tool = scene(env).agent.tcp
    before = tool.pose.to_transformation_matrix()[0, :3, :3].numpy().copy()
    actions = np.zeros((1, 5, 7), np.float32)
    actions[..., 5], actions[..., 6] = 1, 1
    env.step([0], actions)
    turned = tool.pose.to_transformation_matrix()[0, :3, :3].numpy() @ before.T
    yaw = np.arctan2(turned[1, 0], turned[0, 0])
    assert -0.5 < yaw < -0.1


def test_gripper_opens_at_one_and_closes_at_zero(env: ManiSkillEnv) -> None:
    opening = {}
    for gripper in (0.0, 1.0):
        env.reset([0], [episode()])
        actions = np.zeros((1, 2 * CHUNK, 7), np.float32)
        actions[..., 6] = gripper
        opening[gripper] = env.step([0], actions).obs.states[0, 6:].sum()
    assert opening[1.0] > 0.07
    assert opening[0.0] < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_action_is_refused_unexecuted(env: ManiSkillEnv, bad: float) -> None:
    env.reset([0], [episode()])
    assert env._simulator is not None
    steps = env._simulator.steps
    actions = np.zeros((1, CHUNK, 7), np.float32)
    actions[0, 3, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite action in episode PickCube-v1/0/5"):
        env.step([0], actions)
    assert env._simulator.steps == steps


def test_unknown_task_and_trial_are_named(env: ManiSkillEnv) -> None:
    with pytest.raises(ValueError, match="PickCube-v1 has no task 1; allowed: 0 to 0"):
        env.reset([0], [episode(task_id=1)])
    with pytest.raises(ValueError, match="PickCube-v1 has no trial -1; allowed: 0 and above"):
        env.reset([0], [episode(trial_id=-1)])
