"""PutOnPlateInScene25: a WidowX arm puts an object on a plate in a scene of BridgeData; with out-of-distribution variants.

The benchmark of "What Can RL Bring to VLA Generalization?" (https://arxiv.org/abs/2505.19789), which ManiSkill 3.0.1 does not
have. It needs an asset folder: see `assets`. Here every environment becomes a suite, with one task per goal in words:

* `objects`, `instructions`, `layouts`: what, in which words, and where;
* `variants`: which of these each environment draws from, and the numbering of episodes;
* `assets`: the folder; `scene`, `robot`, `pictures`, `success`: the environment in ManiSkill.
"""

from functools import partial
from typing import Any

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.package import asset_folder
from siirl.envs.maniskill.scene25 import assets
from siirl.envs.maniskill.scene25.variants import MAX_STEPS, Split, all_splits
from siirl.envs.maniskill.suites import SUITES, Suite

CONTROL_MODE = "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos"
"""Changes of the end effector's target pose in metres and radians, not scaled, and the gripper in [−1, 1] where 1 is open."""


def _check(split: Split, config: EnvConfig) -> None:
    if config.camera_fov is not None:
        raise ValueError(
            f"env.camera_fov={config.camera_fov} with {split.name}: its camera is the one that took the photographs of the "
            "tables; leave env.camera_fov out"
        )
    assets.check(asset_folder(config), split)


def _start(split: Split, task_id: int, trial_id: int) -> tuple[int, dict[str, Any]]:
    return trial_id, {"episode_id": split.episode_id(task_id, trial_id)}


for _split in all_splits():
    SUITES.register(_split.name)(
        Suite(
            _split.name,
            _split.instructions,
            MAX_STEPS,
            module="siirl.envs.maniskill.scene25.scene",
            settings={"control_mode": CONTROL_MODE},
            camera="3rd_view_camera",
            textures=("rgb", "segmentation"),
            max_trials=_split.num_trials,
            start=partial(_start, _split),
            check=partial(_check, _split),
        )
    )
