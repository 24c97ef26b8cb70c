"""Slots of a world model: independent, deterministic, with rewards and limits of their own. What every env must do:
`tests.envs.test_contract`."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, StepResult
from tests.envs.world_model.small import EXPLODES, SmallModel, SmallWorld, small_world

CHUNK = 8


@pytest.fixture
def config(tmp_path: Path) -> EnvConfig:
    return small_world(tmp_path)


@pytest.fixture
def build(config: EnvConfig) -> Callable[[], SmallWorld]:
    return lambda: SmallWorld(config)


def spec(trial: int = 0, env_seed: int = 7, max_steps: int = 40, task: int = 0) -> EpisodeSpec:
    return EpisodeSpec("toy", task, trial, "", max_steps, group_id=0, index=0, env_seed=env_seed, action_seed=0)


def moves(speed: float, slots: int = 1, length: int = CHUNK) -> np.ndarray:
    """Actions that brighten each frame by a tenth of ``speed``, float32 [slots, length, 7]."""
    actions = np.zeros((slots, length, 7), np.float32)
    actions[..., 0] = speed
    return actions


def play(env: SmallWorld, slots: list[int], chunks: int, speed: float = 0.05) -> StepResult:
    return [env.step(slots, moves(speed, len(slots))) for _ in range(chunks)][-1]


def test_a_slot_does_not_depend_on_who_is_imagined_with_it(build: Callable[[], SmallWorld]) -> None:
    alone = build()
    alone.reset([0], [spec(3)])
    expected = play(alone, [0], 3).obs
    env = build()
    env.reset([0, 1], [spec(5), spec(3)])
    play(env, [0], 1)
    play(env, [1, 0], 1)
    env.reset([2], [spec(1)])
    play(env, [0, 2], 1)
    play(env, [1], 1)
    found = play(env, [2, 1], 1).obs.row(1)
    np.testing.assert_allclose(found.main_images, expected.main_images, atol=1)


def test_with_a_batch_size_of_one_not_even_in_its_last_bit(config: EnvConfig) -> None:
    one = replace(config, world_model=replace(config.world_model, batch_size=1))
    alone, env = SmallWorld(one), SmallWorld(one)
    alone.reset([0], [spec(3)])
    env.reset([0, 1, 2], [spec(5), spec(3), spec(3, env_seed=8)])
    np.testing.assert_array_equal(play(env, [0, 1, 2], 2).obs.row(1).main_images, play(alone, [0], 2).obs.main_images)


def test_the_seed_of_the_environment_draws_the_noise(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0, 1, 2], [spec(), spec(), spec(env_seed=8)])
    images = play(env, [0, 1, 2], 1).obs.main_images
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


def test_noise_differs_from_chunk_to_chunk(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0], [spec()])
    env._imagine([env._running[0]], moves(0))
    first = env._running[0].seed()
    env._imagine([env._running[0]], moves(0))
    assert env._running[0].seed() != first


def test_a_rest_changes_nothing_of_what_is_imagined(config: EnvConfig, build: Callable[[], SmallWorld]) -> None:
    env = SmallWorld(replace(config, world_model=replace(config.world_model, offload=True)))
    env.rest()
    for one in (env, plain := build()):
        one.reset([0], [spec()])
        play(one, [0], 1)
    env.rest()
    np.testing.assert_array_equal(play(env, [0], 1).obs.main_images, play(plain, [0], 1).obs.main_images)


@pytest.mark.parametrize(("named", "expected"), [(None, len(os.sched_getaffinity(0))), (3, 3)])
def test_it_imagines_on_every_core_where_a_simulator_has_one(
    config: EnvConfig, monkeypatch: pytest.MonkeyPatch, named: int | None, expected: int
) -> None:
    used = []
    imagine = SmallModel.imagine
    monkeypatch.setattr(SmallModel, "imagine", lambda *args: used.append(torch.get_num_threads()) or imagine(*args))
    env = SmallWorld(replace(config, world_model=replace(config.world_model, cpu_threads=named)))
    env.reset([0], [spec()])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        env.step([0], moves(0))
        assert torch.get_num_threads() == 1, "whoever acts in this process does so on one"
    finally:
        torch.set_num_threads(before)
    assert used == [expected]


def test_an_episode_starts_with_its_trials_frame_and_knows_no_proprioception(build: Callable[[], SmallWorld]) -> None:
    obs = build().reset([0, 2], [spec(0), spec(11)])
    assert obs.main_images[:, 0, 0, 0].tolist() == [30, 85]
    assert not obs.states.any()
    assert obs.wrist_images is None


def test_success_ends_an_episode_within_a_chunk_and_its_rewards_add_up(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0, 1], [spec(), spec()])
    result = env.step([0, 1], np.concatenate([moves(1.2), moves(0.1)]))
    assert result.success.tolist() == result.terminated.tolist() == [True, False]
    assert result.truncated.tolist() == [False, False]
    assert 1 <= result.executed[0] < CHUNK == result.executed[1]
    assert result.rewards[0].sum() >= 0.5
    assert not result.rewards[0, result.executed[0] :].any()
    frame = result.obs.main_images[0]
    assert 0.55 < frame.mean() / 255 < 0.75, "the picture is that of the end, not of the chunk's last action"
    with pytest.raises(AssertionError, match=r"episode has ended"):
        env.step([0], moves(0))
    assert env.step([1], moves(0)).executed.tolist() == [CHUNK]


def test_each_slot_has_a_limit_of_its_own(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0, 1], [spec(max_steps=11), spec(max_steps=16)])
    play(env, [0, 1], 1, 0.0)
    result = env.step([1, 0], moves(0, 2))
    assert result.executed.tolist() == [8, 3]
    assert result.truncated.tolist() == [True, True]


def test_a_model_that_comes_to_nan_spoils_its_own_row_alone(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0, 1], [spec(), spec()])
    actions = moves(0, 2)
    actions[1, 3, 3] = EXPLODES + 1
    result = env.step([0, 1], actions)
    assert np.isfinite(result.rewards[0]).all()
    assert np.isnan(result.rewards[1]).any()
    assert not result.success.any()
    env.reset([1], [spec()])
    assert np.isfinite(env.step([1], moves(0)).rewards).all()


def test_actions_that_are_not_finite_are_refused(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0], [spec()])
    actions = moves(0)
    actions[0, 2, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinite action in episode toy/0/0"):
        env.step([0], actions)
    assert env._running[0].chunks == 0


def test_chunks_have_the_models_length(build: Callable[[], SmallWorld]) -> None:
    env = build()
    env.reset([0], [spec()])
    with pytest.raises(AssertionError, match=r"8 actions per chunk, not 4"):
        env.step([0], moves(0, length=4))


def test_tasks_are_those_of_the_simulator_with_as_many_trials_as_there_are_frames(config: EnvConfig) -> None:
    (task,) = SmallWorld.tasks(config)
    assert (task.suite, task.task_id, task.num_trials) == ("toy", 0, 12)
    assert SmallWorld.default_max_steps(config) == 24
    unnamed = replace(config, world_model=replace(config.world_model, path=None))
    assert [task.num_trials for task in SmallWorld.tasks(unnamed)] == [12]


def test_what_is_missing_is_named(config: EnvConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a world model itself"):
        SmallWorld.tasks(replace(config, world_model=replace(config.world_model, wm_env_type="small_wm")))
    with pytest.raises(ValueError, match=r"the frames in .* are 32×32; allowed: .*image_size=64"):
        SmallWorld.tasks(replace(config, image_size=64))
    away = replace(config.world_model, initial_image_path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"no initial states at .*nowhere"):
        SmallWorld.tasks(replace(config, world_model=away))
    env = SmallWorld(config)
    with pytest.raises(ValueError, match=r"12 initial states .* no trial 12"):
        env.reset([0], [spec(12)])
    with pytest.raises(ValueError, match=r"no task 3 with initial states; allowed: 0"):
        env.reset([0], [spec(task=3)])


def test_a_registered_backend_is_found_by_name() -> None:
    assert ENVS.get("small_wm") is SmallWorld  # type: ignore[comparison-overlap]
