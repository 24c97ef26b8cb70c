"""The scene in the simulator, without pictures: where things are, what variants change, success and reward."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from mani_skill.utils.structs.pose import Pose

from siirl.envs.maniskill.scene25 import CONTROL_MODE
from siirl.envs.maniskill.scene25.scene import ARM_START, Scene25Env
from tests.envs.maniskill.scene25.synthetic import PLATE_SIZE, TABLE_TOP, object_size

STILL = np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32)


@contextmanager
def made(name: str, folder: Path, **settings: Any) -> Iterator[Scene25Env]:
    """An environment as gymnasium makes it, without its wrappers."""
    env = gymnasium.make(
        name,
        num_envs=1,
        obs_mode="none",
        control_mode=CONTROL_MODE,
        sim_backend="physx_cpu",
        render_backend="none",
        asset_dir=str(folder),
        **settings,
    ).unwrapped
    yield env
    env.close()


@pytest.fixture(scope="module")
def env(folder: Path) -> Iterator[Scene25Env]:
    """The training environment, shared by tests that reset it."""
    with made("PutOnPlateInScene25Main-v3", folder) as env:
        yield env


def position(env: Scene25Env, kind: str, number: int) -> np.ndarray:
    return env.actors[kind, number].pose.p[0].numpy()


def start(env: Scene25Env, episode_id: int) -> None:
    env.reset(seed=0, options={"episode_id": episode_id})


def act(env: Scene25Env, action: np.ndarray = STILL) -> tuple[float, bool, dict[str, Any]]:
    _, reward, terminated, _, info = env.step(action)
    return float(reward[0]), bool(terminated[0]), info


def yaw(quaternion: np.ndarray) -> float:
    return 2 * np.arctan2(quaternion[3], quaternion[0])


@pytest.mark.parametrize("episode_id", [0, 123_457, 802_815])
def test_things_lie_where_the_episode_says(env: Scene25Env, episode_id: int) -> None:
    start(env, episode_id)
    scenario, layouts = env.scenarios[0], env.split.variant.layouts
    where = layouts.places[scenario.place]
    np.testing.assert_allclose(position(env, "object", scenario.object)[:2], where[0, :2], atol=2e-3)
    np.testing.assert_allclose(position(env, "plate", 0)[:2], where[1, :2], atol=2e-3)
    height = object_size(scenario.object)[2]
    np.testing.assert_allclose(position(env, "object", scenario.object)[2], TABLE_TOP + height / 2, atol=1e-3)
    np.testing.assert_allclose(position(env, "plate", 0)[2], TABLE_TOP + PLATE_SIZE[2] / 2, atol=1e-3)
    turned = yaw(env.actors["object", scenario.object].pose.q[0].numpy())
    np.testing.assert_allclose(turned, layouts.yaws[scenario.yaw], atol=0.02)
    assert env.get_language_instruction() == [env.split.instructions[scenario.object]]


def test_only_the_objects_of_the_split_are_built_and_others_are_out_of_sight(env: Scene25Env) -> None:
    start(env, 0)
    assert set(env.actors) == {("object", i) for i in range(16)} | {("plate", 0)}
    away = [position(env, "object", i)[0] for i in range(1, 16)]
    assert min(away) > 0.9, "behind the camera"


def test_the_arm_stands_still_and_open_where_it_was_measured(env: Scene25Env) -> None:
    start(env, 5)
    np.testing.assert_allclose(env.agent.robot.get_qpos()[0], ARM_START, atol=1e-6)
    tip = env.agent.tcp.pose.p[0].numpy()
    for _ in range(5):
        act(env)
    np.testing.assert_allclose(env.agent.tcp.pose.p[0].numpy(), tip, atol=5e-3)


def test_actions_are_metres_towards_the_table(env: Scene25Env) -> None:
    start(env, 5)
    tip = env.agent.tcp.pose.p[0].numpy()
    for move in [0.01] * 3 + [0.0] * 5:  # the arm follows its target with a delay
        act(env, np.array([move, 0, -move, 0, 0, 0, -1], dtype=np.float32))
    moved = env.agent.tcp.pose.p[0].numpy() - tip
    np.testing.assert_allclose(moved, (-0.03, 0, -0.03), atol=5e-3)  # the arm looks along −x
    assert env.agent.robot.get_qpos()[0, -2:].max() < 0.02, "closed"


def test_equal_episodes_are_equal_whatever_came_before(env: Scene25Env) -> None:
    def play(episode_id: int) -> torch.Tensor:
        start(env, episode_id)
        states = [env.get_state()]
        for _ in range(3):
            act(env, np.array([0.02, 0.01, -0.02, 0, 0, 0.1, 1], dtype=np.float32))
            states.append(env.get_state())
        return torch.cat(states)

    first = play(77)
    play(500_000)
    torch.testing.assert_close(play(77), first, rtol=0, atol=1e-5)


def test_without_a_number_the_seed_draws_the_episode(env: Scene25Env) -> None:
    drawn = []
    for seed in (1, 2, 1):
        env.reset(seed=seed)
        drawn.append(env.scenarios[0])
    assert drawn[0] == drawn[2] != drawn[1]


def put_on_plate(env: Scene25Env, offset: tuple[float, float, float]) -> None:
    scenario = env.scenarios[0]
    where = position(env, "plate", scenario.plate) + np.array(offset)
    env.actors["object", scenario.object].set_pose(Pose.create_from_pq(p=torch.as_tensor(where, dtype=torch.float32)))


def test_success_when_the_object_lies_on_the_plate(env: Scene25Env) -> None:
    start(env, 40)
    assert act(env)[1] is False
    put_on_plate(env, (0.01, 0.0, 0.03))
    reward, terminated, info = act(env)
    assert terminated
    assert bool(info["success"][0])
    assert reward == 0, "it was never grasped"


def test_no_success_beside_or_above_the_plate(env: Scene25Env) -> None:
    start(env, 40)
    put_on_plate(env, (0.0, 0.12, 0.03))
    assert act(env)[1] is False
    put_on_plate(env, (0.0, 0.0, 0.5))  # still falling after the step
    env.actors["object", env.scenarios[0].object].set_linear_velocity(torch.tensor([0.0, 0.0, 2.0]))
    assert act(env)[1] is False


def reach(env: Scene25Env, target: np.ndarray, grip: float, steps: int) -> list[float]:
    """Move the fingers to a place in the world, a few centimetres a step."""
    rewards = []
    for _ in range(steps):
        error = target - env.agent.tcp.pose.p[0].numpy()
        move = np.clip(error * (-1, -1, 1), -0.03, 0.03)  # the arm's base is turned by 180°
        reward, terminated, _ = act(env, np.array([*move, 0, 0, 0, grip], dtype=np.float32))
        rewards.append(reward)
        if terminated:
            break
    return rewards


def test_picking_up_and_placing_earns_every_stage(env: Scene25Env) -> None:
    start(env, 4 * 300)  # place 300, yaw 0: the fingers close over the object's narrow side
    there, plate = position(env, "object", 0), position(env, "plate", 0)
    above = np.array([0, 0, 0.1])
    rewards = reach(env, there + above, 1.0, 12) + reach(env, there, 1.0, 10) + reach(env, there, -1.0, 3)
    rewards += reach(env, there + above, -1.0, 8) + reach(env, plate + above, -1.0, 12)
    assert position(env, "object", 0)[2] > TABLE_TOP + 0.06, "lifted"
    rewards += reach(env, plate + np.array([0, 0, 0.02]), -1.0, 10) + reach(env, plate + above, 1.0, 3)
    assert [round(r, 4) for r in rewards if r] == [0.1, 0.1, 1.0]


def test_reward_modes(folder: Path) -> None:
    with made("PutOnPlateInScene25Single-v1", folder, reward_mode="sparse") as env:
        start(env, 9)
        put_on_plate(env, (0.0, 0.0, 0.03))
        assert act(env)[0] == 1


def test_arm_poses(folder: Path) -> None:
    with made("PutOnPlateInScene25EEPose-v1", folder) as env:
        start(env, 10**9 + 7)
        offset = env.agent.robot.get_qpos()[0].numpy() - ARM_START
        assert np.abs(offset[:6]).max() > 0.05
        assert (np.abs(offset[6:]) < 1e-6).all()


def test_held_out_places(folder: Path) -> None:
    with made("PutOnPlateInScene25Position-v1", folder) as env:
        start(env, 1234)
        scenario = env.scenarios[0]
        from_centre = np.abs(position(env, "object", scenario.object)[:2] - (-0.16, 0.0)).max()
        np.testing.assert_allclose(from_centre, 0.105, atol=3e-3)


@pytest.mark.parametrize(("kind", "name"), [("object", "MultiCarrot"), ("plate", "MultiPlate")])
def test_a_distractor_lies_there_too(folder: Path, kind: str, name: str) -> None:
    with made(f"PutOnPlateInScene25{name}-v1", folder) as env:
        start(env, 4321)
        scenario = env.scenarios[0]
        where = env.split.variant.layouts.places[scenario.place]
        np.testing.assert_allclose(position(env, kind, scenario.third)[:2], where[2, :2], atol=3e-3)
        on_table = [k for k in env.actors if position(env, *k)[0] < 0.5]
        assert len(on_table) == 3


def test_the_object_jumps_after_five_steps(folder: Path) -> None:
    with made("PutOnPlateInScene25PositionChangeTo-v1", folder) as env:
        places = env.split.variant.layouts.places
        away = int(np.nonzero(places[:, 2, 1] < -0.07)[0][0])  # not onto the gripper, which is at y = 0.03
        start(env, 4 * away)
        scenario = env.scenarios[0]
        before = position(env, "object", scenario.object)
        where = places[scenario.place]
        for _ in range(4):
            act(env)
        np.testing.assert_allclose(position(env, "object", scenario.object), before, atol=1e-3)
        act(env)
        np.testing.assert_allclose(position(env, "object", scenario.object), where[2], atol=1e-5)
        for _ in range(3):
            act(env)
        after = position(env, "object", scenario.object)
        np.testing.assert_allclose(after[:2], where[2, :2], atol=5e-3)
        assert after[2] < TABLE_TOP + 0.03, "it fell onto the table"
    with made("PutOnPlateInScene25PositionChangeTo-v1.train", folder) as env:
        start(env, 100)
        before = position(env, "object", env.scenarios[0].object)
        for _ in range(6):
            act(env)
        np.testing.assert_allclose(position(env, "object", env.scenarios[0].object), before, atol=1e-3)


def test_missing_assets_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not in the asset folder"), made("PutOnPlateInScene25Main-v3", tmp_path):
        pass
