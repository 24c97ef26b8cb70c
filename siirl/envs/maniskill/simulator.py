"""ManiSkill scenes, one on the CPU or many in one batch on a GPU: physics without pictures, and a picture when somebody looks."""

import gc
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.conventions import axis_angle
from siirl.envs.maniskill.package import prepare
from siirl.envs.maniskill.suites import Suite

CONTROL_MODE = "pd_ee_delta_pose"
WRIST_CAMERA = "hand_camera"


class Simulator:
    """Scenes of one suite that step together.

    Args:
        suite: what to simulate; its scenes are built here.
        config: image size, and where to simulate.
        slots: scenes; more than one only with ``sim_backend=gpu``.
        wrist: also render the camera on the wrist.

    Attributes:
        env: ManiSkill's environment, for privileged reading of the scene.
        slots: number of scenes.
        steps: control steps simulated since it was built.

    Raises:
        ValueError: the module that registers the suite cannot be imported.
    """

    def __init__(self, suite: Suite, config: EnvConfig, slots: int = 1, wrist: bool = False) -> None:
        self.suite, self.slots = suite, slots
        self._rebuilds = config.sim_backend == "cpu"
        self.steps = 0
        self._cameras = (suite.camera, WRIST_CAMERA) if wrist else (suite.camera,)
        self.env = _build(suite, config, slots, (suite.wrist or {}) if wrist else {})
        # built with obs_mode "none", so that ManiSkill renders nothing by itself; from now on it may be asked to
        for texture in suite.textures:
            setattr(self.env.obs_mode_struct.visual, texture, True)

    def reset(self, slot: int, task_id: int, trial_id: int) -> None:
        """Put one slot's scene into an initial state; the others stay as they are.

        Every generator is seeded alike, whatever the slot, so that equal task and trial give equal scenes. On the CPU the scene
        is built anew: PhysX keeps traces of contacts over a reset, and then grasps differ with what was grasped before.
        """
        seed, options = self.suite.start(task_id, trial_id)
        alone = {"env_idx": torch.tensor([slot], device=self.env.device)}
        how = {"reconfigure": True} if self._rebuilds else alone
        self.env.reset(seed=[seed] * self.slots, options={**options, **how})
        self._show_goals()
        self._drop_cameras()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Simulate one control step of every slot under actions float32 [slots, 7] in ManiSkill's convention.

        Returns:
            rewards float32 [slots] (dense, normalised to at most 1), success bool [slots], terminated bool [slots] (success,
            or a failure that ManiSkill tells).
        """
        self.steps += 1
        _, rewards, terminated, _, info = self.env.step(torch.from_numpy(actions))
        return _numpy(rewards).astype(np.float32), _numpy(info["success"]), _numpy(terminated)

    def states(self) -> np.ndarray:
        """Proprioception float32 [slots, 8]: tool centre position (m, world frame), its axis-angle (rad), finger joints (m)."""
        agent = self.env.agent
        pose = agent.tcp.pose
        fingers = agent.robot.get_qpos()[:, -2:]
        return np.concatenate([_numpy(pose.p), axis_angle(_numpy(pose.q)), _numpy(fingers)], axis=1).astype(np.float32)

    def render(self) -> list[np.ndarray]:
        """Pictures uint8 [slots, H, W, 3], the main camera's and, if asked for, the wrist's."""
        sensors = self.env._get_obs_sensor_data()
        return [_numpy(sensors[camera]["rgb"]).astype(np.uint8) for camera in self._cameras]

    def close(self) -> None:
        """Free the scenes."""
        gc.unfreeze()
        self.env.close()

    def _show_goals(self) -> None:
        """Show what ManiSkill hides from its cameras: the markers of goals, which a policy that sees cannot know otherwise."""
        for marker in self.env._hidden_objects:
            marker.show_visual()
        self.env._hidden_objects.clear()

    def _drop_cameras(self) -> None:
        """Forget the cameras that nobody looks through, so that they are not rendered."""
        for name in self.env.scene.sensors.keys() - set(self._cameras):
            del self.env.scene.sensors[name]


def _build(suite: Suite, config: EnvConfig, slots: int, robot: Mapping[str, Any]) -> Any:
    """ManiSkill's environment of a suite, without gymnasium's wrappers."""
    prepare(config)
    import gymnasium

    importlib.import_module(suite.module)
    # ManiSkill collects garbage whenever it builds a scene: without what lies there already, that takes 10 ms instead of 170
    gc.freeze()
    cameras: dict[str, Any] = {"width": config.image_size, "height": config.image_size}
    if config.camera_fov is not None:
        cameras[suite.camera] = {"fov": config.camera_fov}
    gpu = config.sim_backend == "gpu"
    arguments = {
        "num_envs": slots,
        "obs_mode": "none",
        "reward_mode": "normalized_dense",
        "control_mode": CONTROL_MODE,
        "sim_backend": "physx_cuda" if gpu else "physx_cpu",
        "render_backend": "gpu" if gpu else "cpu",
        "sensor_configs": cameras,
    }
    return gymnasium.make(suite.name, **{**arguments, **suite.settings, **robot}).unwrapped


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.cpu().numpy()
