from contextlib import closing

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.libero import to_libero_gripper
from siirl.envs.libero.expert import PickAndPlace
from siirl.envs.libero.grasps import rank_grasps
from siirl.envs.libero.simulator import Simulator
from siirl.envs.libero.suites import find_task


def build(config: EnvConfig, suite: str, task_id: int) -> Simulator:
    return Simulator(find_task(suite, task_id), config.image_size, config.antialiasing, config.max_texture_size)


def test_expert_fills_the_basket_and_the_state_is_robosuites(config: EnvConfig) -> None:
    with closing(build(config, "libero_object", 0)) as simulator:
        simulator.reset(0, seed=0)
        expert = PickAndPlace(simulator).actions()
        steps = next((i for i, a in enumerate(expert) if simulator.step(to_libero_gripper(a))), None)
        assert steps is not None, "not solved"
        assert steps < 150

        state = simulator.state()
        names = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
        for name in names:
            simulator.domain.modify_observable(name, "enabled", True)
            simulator.domain.modify_observable(name, "active", True)
        position, (x, y, z, w), fingers = map(simulator.domain._get_observations(force_update=True).get, names)
        angle = 2 * np.arccos(np.clip(w, -1, 1))
        axis_angle = np.array([x, y, z]) / np.sin(angle / 2) * angle
        np.testing.assert_allclose(state, np.concatenate([position, axis_angle, fingers]), rtol=1e-5, atol=1e-6)


def test_expert_refuses_other_goals_and_retries_with_other_grasps(config: EnvConfig) -> None:
    with closing(build(config, "libero_goal", 0)) as simulator:  # open the middle drawer of the cabinet
        simulator.reset(0, seed=0)
        with pytest.raises(ValueError, match="the scripted expert puts objects on or in others"):
            PickAndPlace(simulator)
        goal = simulator.domain.parsed_problem
        goal["goal_state"] = [["on", "akita_black_bowl_1", "plate_1"]]
        grasps = rank_grasps(PickAndPlace(simulator)._scene, "akita_black_bowl_1")
        assert len({grasp.yaw for grasp in grasps}) == len(grasps) == 12
        assert [g.score for g in grasps] == sorted((g.score for g in grasps), reverse=True)
        assert list(PickAndPlace(simulator, choice=12).actions()) == [], "no such grasp: nothing to do"
