"""What siirl knows of ManiSkill's environments: goals in words, lengths, cameras. Read without importing ManiSkill.

ManiSkill calls an environment by an id such as ``PickCube-v1``; here that id is a suite, most often with one task. One more is a
`Suite` registered in a module of this package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from siirl.config.schema import EnvConfig
from siirl.registry import Registry


@dataclass(frozen=True)
class Suite:
    """One environment of ManiSkill.

    Attributes:
        name: its id, as ``env.env_name`` and ``gymnasium.make`` know it.
        instructions: the language goal of each task, by ``task_id``.
        max_steps: control steps after which an episode is truncated.
        module: what to import before the id is made; it registers the id with ManiSkill.
        settings: further arguments of ``gymnasium.make``.
        camera: the sensor that takes the main picture.
        textures: what the sensors capture; more than ``rgb`` only where the environment itself needs it for its picture.
        wrist: settings that give the robot a camera on its wrist, named ``hand_camera``; None where it cannot have one.
        rebuilds: whether a scene is built anew at each reset, because its shapes depend on the seed.
        max_trials: initial states there are; None for as many as there are seeds.
        start: (task_id, trial_id) → seed and options of the environment's ``reset``.
        check: raises ValueError when the suite cannot be run with a config, as with assets that are missing.
    """

    name: str
    instructions: tuple[str, ...]
    max_steps: int
    module: str = "mani_skill.envs"
    settings: Mapping[str, Any] = field(default_factory=dict)
    camera: str = "base_camera"
    textures: tuple[str, ...] = ("rgb",)
    wrist: Mapping[str, Any] | None = None
    rebuilds: bool = False
    max_trials: int | None = None
    start: Callable[[int, int], tuple[int, dict[str, Any]]] = lambda task_id, trial_id: (trial_id, {})
    check: Callable[[EnvConfig], None] = lambda config: None


SUITES: Registry[Suite] = Registry("ManiSkill task", "siirl.envs.maniskill")
