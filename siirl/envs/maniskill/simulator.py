"""ManiSkill scenes, one on the CPU or many in one batch on a GPU: physics without pictures, and a picture when somebody looks."""

import importlib
from typing import Any

import numpy as np

from siirl.envs.maniskill.suites import Suite

WRIST_CAMERA = "hand_camera"
CONTROL_MODE = "pd_ee_delta_pose"


class Simulator:
    """Scenes of one suite that step together.

    Args:
        suite: what to simulate.
        image_size: side of the rendered images, pixels.
        wrist: also render the camera on the wrist.
        slots: scenes; more than one only on a GPU.
        gpu: simulate and render on the GPU.

    Attributes:
        env: ManiSkill's environment, for privileged reading of the scene.
    """

    def __init__(self, suite: Suite, image_size: int, wrist: bool = False, slots: int = 1, gpu: bool = False) -> None:
        import gymnasium

        importlib.import_module(suite.module)
        self.suite = suite
        self._slots = slots
        settings = {"control_mode": CONTROL_MODE, **suite.settings, **((suite.wrist or {}) if wrist else {})}
        self.env: Any = gymnasium.make(
            suite.name,
            num_envs=slots,
            obs_mode="none",
            reward_mode="normalized_dense",
            sim_backend="physx_cuda" if gpu else "physx_cpu",
            render_backend="gpu" if gpu else "cpu",
            sensor_configs={"width": image_size, "height": image_size},
            **settings,
        ).unwrapped
        self._cameras = (suite.camera, WRIST_CAMERA) if wrist else (suite.camera,)

    def reset(self, slot: int, task_id: int, trial_id: int) -> None:
        """Put one slot's scene into an initial state; the others stay as they are."""
        raise NotImplementedError

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Simulate one control step of every slot under actions float32 [slots, 7] in ManiSkill's convention.

        Returns:
            rewards float32 [slots], success bool [slots], terminated bool [slots].
        """
        raise NotImplementedError

    def states(self) -> np.ndarray:
        """Proprioception float32 [slots, 8]."""
        raise NotImplementedError

    def render(self) -> list[np.ndarray]:
        """Pictures uint8 [slots, H, W, 3], the main camera's and, if asked for, the wrist's."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the scenes."""
        self.env.close()
