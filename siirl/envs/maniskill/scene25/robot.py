"""The WidowX 250 S arm of the BridgeData digital twin, from the asset folder."""

from pathlib import Path
from typing import Any

from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval.base_env import WidowX250SBridgeDatasetFlatTable


def widowx(urdf: Path) -> type:
    """A class of the arm that is loaded from ``urdf``, with the tool centre point that ManiSkill's other arms have."""

    class WidowX(WidowX250SBridgeDatasetFlatTable):
        urdf_path = str(urdf)

        def _after_init(self) -> None:
            self.tcp = self.robot.links_map["ee_gripper_link"]

        @property
        def _sensor_configs(self) -> list[Any]:
            cameras = super()._sensor_configs
            for camera in cameras:
                camera.shader_pack = "default"  # which the benchmark's pictures were made with
            return cameras

    return WidowX
