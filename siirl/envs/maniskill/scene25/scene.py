"""The scene in ManiSkill: a WidowX arm at a table of BridgeData, one object to pick up and one to put it on.

Importing this module registers every environment of the benchmark with ManiSkill.
"""

from pathlib import Path
from typing import Any

import numpy as np
import sapien
import torch
from mani_skill.envs.tasks.digital_twins.base_env import BaseDigitalTwinEnv
from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval.base_env import BaseBridgeEnv
from mani_skill.utils import sapien_utils
from mani_skill.utils.geometry.rotation_conversions import quaternion_to_matrix
from mani_skill.utils.registration import register_env
from mani_skill.utils.structs.actor import Actor
from mani_skill.utils.structs.pose import Pose
from sapien.physx import PhysxMaterial

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.package import asset_folder
from siirl.envs.maniskill.scene25 import assets, layouts, pictures
from siirl.envs.maniskill.scene25.assets import Thing
from siirl.envs.maniskill.scene25.robot import widowx
from siirl.envs.maniskill.scene25.success import Progress, on_plate, rotated_extents
from siirl.envs.maniskill.scene25.variants import MAX_STEPS, VARIANTS, Scenario, all_splits

FRICTION = 1.0
STAGE_POSE = sapien.Pose([2.0634, 2.8313, 0.0])
STAGE_UPRIGHT = sapien.Pose(q=[0.707, 0.707, 0, 0])
ROBOT_POSE = sapien.Pose([0.147, 0.028, 0.870], [0, 0, 0, 1])
ROBOT_ASIDE = sapien.Pose([0.147, 0.028, 1.870], [0, 0, 0, 1])
"""Where the arm waits while things fall onto the table."""
ARM_START = np.array([-0.01840777, 0.0398835, 0.22242722, -0.00460194, 1.36524296, 0.00153398, 0.037, 0.037])
"""Joints, radians and metres, measured on the robot of BridgeData."""
MOVE_STEP = 5
"""Control steps after which the object of PutOnPlateInScene25PositionChangeTo-v1 jumps."""


def _parked(kind: str, number: int) -> list[float]:
    """Pose [7] behind the camera of what an episode does not use."""
    return [1.0 if kind == "object" else 2.0, 0.3 * number, 1.0, 1.0, 0.0, 0.0, 0.0]


class Scene25Env(BaseBridgeEnv):
    """One environment of the benchmark; lights, camera, frequencies and arm are those of ManiSkill's BridgeData digital twin.

    ``reset`` starts ``options["episode_id"]`` (int or int [len(env_idx)], numbered as published), or one drawn with the seed.
    Pictures come in the width and height of ``sensor_configs``, whatever the camera's own are.

    Args:
        variant: which environment, see `variants.VARIANTS`.
        obj_set: ``train``, ``test`` or ``all``; None: what the published protocol evaluates.
        asset_dir: see `assets`; None: $MS_ASSET_DIR, else ~/.maniskill.

    Raises:
        ValueError: assets are missing or not the published ones.
    """

    SUPPORTED_OBS_MODES = ("none", "state", "state_dict", "rgb+segmentation")
    SUPPORTED_REWARD_MODES = ("normalized_dense", "dense", "sparse", "none")

    def __init__(
        self,
        variant: str,
        obj_set: str | None = None,
        asset_dir: str | None = None,
        sensor_configs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        folder = asset_folder(EnvConfig(asset_dir=asset_dir))
        self.split = VARIANTS[variant].split(obj_set)
        assets.check(folder, self.split)
        self._folder = folder
        self._things = dict(zip(("object", "plate"), assets.read_things(folder, self.split), strict=True))
        self._tables = assets.read_tables(folder)
        self._photos: dict[Path, torch.Tensor] = {}
        sensors = dict(sensor_configs or {})
        self._size = (sensors.pop("height", pictures.SIZE[0]), sensors.pop("width", pictures.SIZE[1]))
        self.rgb_overlay_paths: dict[
            str, str
        ] = {}  # one picture for ever, in ManiSkill; here it changes with the episode
        # ManiSkill keeps these two on the class, where the environments of a process would share them
        self._rgb_overlay_images: dict[str, torch.Tensor] = {}
        self._objects_to_remove_from_greenscreen: list[Any] = []
        # past BaseBridgeEnv's constructor, which reads ManiSkill's own list of objects
        BaseDigitalTwinEnv.__init__(self, robot_uids=widowx(folder / assets.ROBOT), sensor_configs=sensors, **kwargs)

    # ------------------------------------------------------------------ building

    def _load_scene(self, options: dict[str, Any]) -> None:
        for robot in self.agent.robot._objs:
            sapien_utils.set_articulation_render_material(robot, specular=0.9, roughness=0.3)
        stage = self.scene.create_actor_builder()
        stage.add_nonconvex_collision_from_file(str(self._folder / assets.STAGE), pose=STAGE_UPRIGHT)
        stage.add_visual_from_file(str(self._folder / assets.STAGE), pose=STAGE_UPRIGHT)
        stage.initial_pose = STAGE_POSE
        stage.build_static(name="arena")
        self.actors = {
            (kind, number): self._build(kind, number, thing)
            for kind, things in self._things.items()
            for number, thing in things.items()
        }
        for shown in (self.agent.robot, *self.actors.values()):
            self.remove_object_from_greenscreen(shown)

    def _build(self, kind: str, number: int, thing: Thing) -> Actor:
        builder = self.scene.create_actor_builder()
        material = PhysxMaterial(static_friction=FRICTION, dynamic_friction=FRICTION, restitution=0.0)
        scale = [thing.scale] * 3
        builder.add_multiple_convex_collisions_from_file(
            str(thing.collision), scale=scale, material=material, density=thing.density
        )
        builder.add_visual_from_file(str(thing.visual), scale=scale)
        parked = _parked(kind, number)
        builder.initial_pose = sapien.Pose(parked[:3], parked[3:])
        return builder.build(name=thing.name)

    def _after_reconfigure(self, options: dict[str, Any]) -> None:
        super()._after_reconfigure(options)
        self.scenarios: list[Scenario] = [self.split.scenario(0)] * self.num_envs
        self.progress = Progress(self.num_envs, self.device)
        self._extents = {kind: torch.zeros(self.num_envs, 3, device=self.device) for kind in self._things}
        self._backgrounds = torch.zeros((self.num_envs, *pictures.SIZE, 3), dtype=torch.uint8, device=self.device)

    # ------------------------------------------------------------------ an episode's start

    def _initialize_episode(self, env_idx: torch.Tensor, options: dict[str, Any]) -> None:
        slots = [int(i) for i in env_idx]
        for slot, episode_id in zip(slots, self._episode_ids(slots, options), strict=True):
            self.scenarios[slot] = self.split.scenario(int(episode_id))
            photo = self._photo(self._tables[self.scenarios[slot].table].picture, pictures.SIZE)
            self._backgrounds[slot] = photo.to(self.device)
        scenarios = [self.scenarios[slot] for slot in slots]
        self.agent.robot.set_pose(ROBOT_ASIDE)
        for (kind, number), actor in self.actors.items():
            self._put(actor, [self._start(kind, number, s) for s in scenarios])
        if len(slots) == self.num_envs:  # physics moves every slot: others' episodes would go on
            self._let_fall()
        self.agent.robot.set_pose(ROBOT_POSE)
        self.agent.reset(init_qpos=self._tensor(ARM_START + layouts.arm_offsets()[[s.arm for s in scenarios]]))
        for kind, things in self._things.items():
            size = self._tensor(np.stack([things[getattr(s, kind)].size for s in scenarios]))
            self._extents[kind][env_idx] = rotated_extents(size, quaternion_to_matrix(self._poses(kind)[env_idx, 3:]))
        self.progress.reset(env_idx)

    def _episode_ids(self, slots: list[int], options: dict[str, Any]) -> np.ndarray:
        """Numbers int [len(slots)] of the episodes to start."""
        if (given := options.get("episode_id")) is None:
            return self._batched_episode_rng[slots].randint(0, self.split.num_episodes)
        return np.broadcast_to(np.asarray(torch.as_tensor(given).cpu()), (len(slots),))

    def _start(self, kind: str, number: int, scenario: Scenario) -> list[float]:
        """Pose [7] that an object or a plate has when an episode starts."""
        place = self.split.variant.layouts.places[scenario.place]
        if number == getattr(scenario, kind):
            where = place[0 if kind == "object" else 1]
        elif self.split.variant.third == kind and number == scenario.third:
            where = place[2]
        else:
            return _parked(kind, number)
        return [*where, *self._turned(kind, scenario)]

    def _turned(self, kind: str, scenario: Scenario) -> list[float]:
        """Orientation [4]: objects are turned about the vertical, plates are not."""
        half = self.split.variant.layouts.yaws[scenario.yaw] / 2 if kind == "object" else 0.0
        return [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))]

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def _put(self, actor: Actor, poses: list[list[float]]) -> None:
        pose = self._tensor(poses)
        actor.set_pose(Pose.create_from_pq(pose[:, :3], pose[:, 3:]))

    def _let_fall(self) -> None:
        """Half a control step of physics, and six more if things still move."""
        for duration in (0.5, 6):
            if self.gpu_sim_enabled:
                self.scene._gpu_apply_all()
            self._settle(duration)
            if self.gpu_sim_enabled:
                self.scene._gpu_fetch_all()
            if self._at_rest():
                return

    def _at_rest(self) -> bool:
        """Whether everything on every slot's table lies still."""
        for slot, s in enumerate(self.scenarios):
            used = [self.actors["object", s.object], self.actors["plate", s.plate]]
            if self.split.variant.third is not None and s.third is not None:
                used.append(self.actors[self.split.variant.third, s.third])
            for actor in used:
                if actor.linear_velocity[slot].norm() > 1e-3 or actor.angular_velocity[slot].norm() > 1e-2:
                    return False
        return True

    # ------------------------------------------------------------------ during an episode

    def _after_control_step(self) -> None:
        due = [i for i, s in enumerate(self.scenarios) if s.moves and int(self._elapsed_steps[i]) + 1 == MOVE_STEP]
        if not due:
            return
        if self.gpu_sim_enabled:
            self.scene._gpu_fetch_all()
        for number in {self.scenarios[i].object for i in due}:
            self._jump(self.actors["object", number], [i for i in due if self.scenarios[i].object == number])
        if self.gpu_sim_enabled:
            self.scene._gpu_apply_all()

    def _jump(self, actor: Actor, slots: list[int]) -> None:
        """Put the object of some slots, at rest, above its third place."""
        everywhere = self.scene._reset_mask
        self.scene._reset_mask = torch.zeros_like(everywhere)
        self.scene._reset_mask[slots] = True
        scenarios = [self.scenarios[i] for i in slots]
        places = self.split.variant.layouts.places
        self._put(actor, [[*places[s.place][2], *self._turned("object", s)] for s in scenarios])
        actor.set_linear_velocity(torch.zeros(3, device=self.device))
        actor.set_angular_velocity(torch.zeros(3, device=self.device))
        self.scene._reset_mask = everywhere

    def _poses(self, kind: str) -> torch.Tensor:
        """Poses float32 [num_envs, 7] of each slot's object or plate."""
        numbers = [getattr(s, kind) for s in self.scenarios]
        raw = {n: self.actors[kind, n].pose.raw_pose for n in set(numbers)}
        return torch.stack([raw[n][slot] for slot, n in enumerate(numbers)])

    def evaluate(self) -> dict[str, torch.Tensor]:
        """Success, and what of the way there each episode has behind it; all bool [num_envs]."""
        pairs = [(self.actors["object", s.object], self.actors["plate", s.plate]) for s in self.scenarios]
        forces = {pair: self.scene.get_pairwise_contact_forces(*pair).norm(dim=1) for pair in set(pairs)}
        grasps = {thing: self.agent.is_grasping(thing) for thing, _ in set(pairs)}
        force = torch.stack([forces[pair][slot] for slot, pair in enumerate(pairs)])
        grasping = torch.stack([grasps[thing][slot] for slot, (thing, _) in enumerate(pairs)])
        offset = self._poses("object")[:, :3] - self._poses("plate")[:, :3]
        success = on_plate(offset, self._extents["object"], self._extents["plate"], force)
        self.progress.update(self._elapsed_steps, grasping, success)
        return {
            "success": success,
            "is_src_obj_grasped": self.progress.grasped,
            "consecutive_grasp": self.progress.held,
        }

    def compute_dense_reward(self, obs: Any, action: torch.Tensor, info: dict[str, Any]) -> torch.Tensor:
        """Float32 [num_envs], see `Progress`."""
        return self.progress.reward

    def compute_normalized_dense_reward(self, obs: Any, action: torch.Tensor, info: dict[str, Any]) -> torch.Tensor:
        """The same: stages add up to 1.2 over an episode, and published hyperparameters suit that."""
        return self.progress.reward

    def get_language_instruction(self) -> list[str]:
        """The goal of each slot in words."""
        return [s.instruction for s in self.scenarios]

    # ------------------------------------------------------------------ pictures

    def _get_obs_sensor_data(self, apply_texture_transforms: bool = True) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_obs_sensor_data(apply_texture_transforms)
        if not self.obs_mode_struct.visual.rgb:
            return data
        camera = data[pictures.CAMERA]
        assert "segmentation" in camera, "the background is replaced where the segmentation says so"
        foreground = torch.isin(
            camera["segmentation"][..., 0], self._segmentation_ids_to_keep.to(camera["segmentation"].device)
        )
        composed = pictures.with_background(camera["rgb"], foreground, self._backgrounds.to(foreground.device))
        if (texture := self.split.variant.texture) is not None:
            for slot, scenario in enumerate(self.scenarios):
                table = self._tables[scenario.texture]
                image = self._photo(table.texture, pictures.texture_size(texture)).to(foreground.device)
                composed[slot] = pictures.blend(composed[slot], foreground[slot], image, texture, table.mix)
        camera["rgb"] = pictures.resized(composed, self._size)
        return data

    def _photo(self, file: Path, size: tuple[int, int]) -> torch.Tensor:
        if file not in self._photos:
            self._photos[file] = pictures.read_picture(file, size)
        return self._photos[file]


for _split in all_splits():
    register_env(_split.name, max_episode_steps=MAX_STEPS, variant=_split.variant.name, obj_set=_split.obj_set)(
        Scene25Env
    )
