"""The environment on real LIBERO: one env for all tests, because building a simulator takes seconds."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.base import ENVS, Env, EnvObs, StepResult
from siirl.envs.libero import LiberoEnv, to_libero_gripper
from siirl.envs.libero.expert import PickAndPlace
from siirl.envs.libero.simulator import Simulator
from siirl.envs.libero.suites import find_task

from .conftest import episode

CHUNK = 8


@pytest.fixture(scope="module")
def solution(config: EnvConfig) -> np.ndarray:
    """The expert's actions [L, 7] that solve `episode()`, the last of which succeeds."""
    simulator = Simulator(
        find_task("libero_spatial", 0), config.image_size, config.antialiasing, config.max_texture_size
    )
    with closing(simulator):
        simulator.reset(45, seed=7)
        actions = []
        for action in PickAndPlace(simulator).actions():
            actions.append(action)
            if simulator.step(to_libero_gripper(action)):
                return np.stack(actions)
    pytest.fail("the expert did not solve libero_spatial task 0, trial 45")


@pytest.fixture(scope="module")
def env(config: EnvConfig, solution: np.ndarray) -> Iterator[LiberoEnv]:
    """Built after the solution's simulator was closed: a process can hold one."""
    with closing(LiberoEnv(config, wrist=True)) as env:
        yield env


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the simulator's physics steps and renderings."""
    counter: Counter[str] = Counter()
    for name in ("step", "render"):
        original = getattr(Simulator, name)

        def counting(self: Simulator, *args: object, name: str = name, original: object = original) -> object:
            counter[name] += 1
            return original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(Simulator, name, counting)
    return counter


def play(env: LiberoEnv, actions: np.ndarray) -> list[StepResult]:
    """Execute chunks until the actions or the episode end."""
    results = []
    for start in range(0, len(actions), CHUNK):
        results.append(env.step([0], actions[None, start : start + CHUNK]))
        if results[-1].terminated[0] or results[-1].truncated[0]:
            break
    return results


def padded(actions: np.ndarray) -> np.ndarray:
    """Actions to a whole number of chunks and one more chunk."""
    missing = -len(actions) % CHUNK + CHUNK
    return np.concatenate([actions, np.zeros((missing, 7), np.float32)])


def assert_same(a: EnvObs, b: EnvObs) -> None:
    """Bit-equal observations."""
    np.testing.assert_array_equal(a.main_images, b.main_images)
    np.testing.assert_array_equal(a.wrist_images, b.wrist_images)
    np.testing.assert_array_equal(a.states, b.states)


def test_registered_under_its_name() -> None:
    assert ENVS.get("libero") is LiberoEnv


def test_first_observation(env: LiberoEnv) -> None:
    obs = env.reset([0], [episode()])
    assert isinstance(env, Env)
    assert obs.main_images.shape == obs.wrist_images.shape == (1, 64, 64, 3)
    assert obs.main_images.dtype == obs.wrist_images.dtype == np.uint8
    assert obs.states.shape == (1, 8)
    assert obs.states.dtype == np.float32
    assert obs.task_descriptions == [
        "pick up the black bowl between the plate and the ramekin and place it on the plate"
    ]


def test_images_are_upright(env: LiberoEnv) -> None:
    image = env.reset([0], [episode()]).main_images[0].astype(float)
    redness = (image[..., 0] - image[..., 2]).mean(axis=1)
    assert redness[-20:].mean() > redness[:20].mean() + 10, "the wooden table is below the grey wall"


def test_success_ends_the_episode_within_a_chunk(env: LiberoEnv, solution: np.ndarray, calls: Counter[str]) -> None:
    env.reset([0], [episode()])
    assert calls == {"step": 10, "render": 2}, "settling is not rendered"
    calls.clear()
    results = play(env, padded(solution))
    last = results[-1]
    assert last.success[0]
    assert last.terminated[0]
    assert not last.truncated[0]
    assert sum(r.executed[0] for r in results) == len(solution) == calls["step"]
    assert calls["render"] == 2 * len(results), "one picture per camera and chunk"
    assert last.executed[0] == (len(solution) - 1) % CHUNK + 1
    expected = np.zeros((1, CHUNK), np.float32)
    expected[0, last.executed[0] - 1] = 1
    np.testing.assert_array_equal(last.rewards, expected)
    assert not any(r.success[0] or r.rewards.any() for r in results[:-1])


def test_nothing_is_simulated_after_the_end(env: LiberoEnv, solution: np.ndarray, calls: Counter[str]) -> None:
    env.reset([0], [episode(max_steps=5)])
    calls.clear()
    result = env.step([0], solution[None, :CHUNK])
    assert calls == {"step": 5, "render": 2}
    assert result.executed[0] == 5
    assert result.truncated[0]
    assert not result.terminated[0]
    assert not result.success[0]
    with pytest.raises(AssertionError, match="episode has ended"):
        env.step([0], solution[None, :CHUNK])
    assert calls == {"step": 5, "render": 2}


def test_success_at_the_last_allowed_step_is_no_truncation(env: LiberoEnv, solution: np.ndarray) -> None:
    env.reset([0], [episode(max_steps=len(solution))])
    last = play(env, padded(solution))[-1]
    assert last.success[0]
    assert not last.truncated[0]


def test_same_seed_and_actions_give_the_same_bits(env: LiberoEnv, solution: np.ndarray) -> None:
    first = [env.reset([0], [episode()]), *(r.obs for r in play(env, solution[:40]))]
    env.reset([0], [episode(trial_id=3)])
    play(env, -solution[:24])  # leaves gripper, controller and random generators in another state
    again = [env.reset([0], [episode()]), *(r.obs for r in play(env, solution[:40]))]
    for a, b in zip(first, again, strict=True):
        assert_same(a, b)


def test_other_env_seed_moves_the_furniture(env: LiberoEnv) -> None:
    from dataclasses import replace

    first = env.reset([0], [episode()]).main_images
    second = env.reset([0], [replace(episode(), env_seed=8)]).main_images
    assert (first != second).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_action_is_refused_unexecuted(env: LiberoEnv, calls: Counter[str], bad: float) -> None:
    env.reset([0], [episode()])
    calls.clear()
    actions = np.zeros((1, CHUNK, 7), np.float32)
    actions[0, 3, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite action in episode libero_spatial/0/45"):
        env.step([0], actions)
    assert not calls


def test_a_diverged_simulation_is_nan_until_the_next_reset(
    env: LiberoEnv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MuJoCo itself goes on from a finite default pose, and would write a log file."""
    monkeypatch.chdir(tmp_path)
    still = np.zeros((1, CHUNK, 7), np.float32)
    env.reset([0], [episode()])
    assert env._simulator is not None
    env._simulator.domain.sim.data.qvel[-1] = np.nan
    assert np.isnan(env.step([0], still).obs.states).all()
    again = env.step([0], still)
    assert np.isnan(again.obs.states).all(), "for the rest of the episode"
    assert not again.success[0]
    assert np.isfinite(env.reset([0], [episode()]).states).all()
    assert np.isfinite(env.step([0], still).obs.states).all()
    assert not list(tmp_path.iterdir()), "MUJOCO_LOG.TXT"


def test_objects_that_never_fit_end_the_reset(env: LiberoEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    from robosuite.utils.errors import RandomizationError

    def full() -> None:
        raise RandomizationError("no place")

    env.reset([0], [episode()])
    assert env._simulator is not None
    monkeypatch.setattr(env._simulator.domain, "reset", full)
    with pytest.raises(RuntimeError, match="objects of libero_spatial task 0 fitted into the scene in none of 100"):
        env.reset([0], [episode()])


def test_unknown_trial_and_task_are_named(env: LiberoEnv) -> None:
    with pytest.raises(ValueError, match="libero_spatial task 0 has no trial 50; allowed: 0 to 49"):
        env.reset([0], [episode(trial_id=50)])
    with pytest.raises(ValueError, match="libero_spatial has no task 10; allowed: 0 to 9"):
        env.reset([0], [episode(task_id=10)])


def test_gripper_opens_at_one_and_closes_at_zero(env: LiberoEnv) -> None:
    opening = {}
    for gripper in (0.0, 1.0):
        env.reset([0], [episode()])
        actions = np.zeros((1, 2 * CHUNK, 7), np.float32)
        actions[..., 6] = gripper
        fingers = env.step([0], actions).obs.states[0, 6:]
        opening[gripper] = fingers[0] - fingers[1]
    assert opening[1.0] > 0.07
    assert opening[0.0] < 0.01


def test_another_task_and_back(env: LiberoEnv) -> None:
    """Switching rebuilds the simulator; its predecessor's OpenGL context must not harm it."""
    before = env.reset([0], [episode()])
    other = env.reset([0], [episode("libero_object")])
    assert other.task_descriptions == ["pick up the alphabet soup and place it in the basket"]
    assert (other.main_images != before.main_images).any()
    assert_same(env.reset([0], [episode()]), before)


@pytest.mark.parametrize(("policy", "libero"), [(0.0, 1.0), (0.3, 1.0), (0.5, 0.0), (0.7, -1.0), (1.0, -1.0)])
def test_gripper_is_binarised_and_inverted(policy: float, libero: float) -> None:
    action = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, policy], np.float32)
    converted = to_libero_gripper(action)
    np.testing.assert_array_equal(converted[:6], action[:6])
    assert converted[6] == libero
    assert action[6] == np.float32(policy), "the given array is left alone"
