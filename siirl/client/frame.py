"""``python -m siirl.client.frame``: builds a simulator, draws with it, and prints how that went as one line of JSON.

A process of its own, because a driver that crashes takes its process with it, and because one may hold a single simulator.
The simulator's settings, an `EnvConfig` as JSON, come on stdin.
"""

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.envs.base import ENVS

FRAMES = 5
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "lavapipe")
"""What the drivers that draw with the processor call themselves."""


@dataclass(frozen=True)
class Drawn:
    """What came of it.

    Attributes:
        way: the interface that was drawn through, e.g. ``EGL``.
        renderer: what the driver calls itself, e.g. ``llvmpipe (LLVM 15.0.6, 256 bits)``.
        build: seconds until the scene stood.
        frame: seconds for one frame, the median of `FRAMES`.
        side: of the frame, pixels.
        contrast: standard deviation of its values; 0 for a blank one.
    """

    way: str
    renderer: str
    build: float
    frame: float
    side: int
    contrast: float

    @property
    def software(self) -> bool:
        """Whether the processor draws."""
        return any(name in self.renderer.lower() for name in SOFTWARE)


def draw(config: EnvConfig) -> Drawn:
    """Build the first task's scene and draw it a few times.

    Raises:
        ValueError: the simulator, its assets or a driver is missing; says the fix.
    """
    ENVS.get(config.env_type).check_machine(config)
    begin = time.perf_counter()
    render, describe = SCENES[config.env_type](config)
    picture = render()
    build = time.perf_counter() - begin
    times = []
    for _ in range(FRAMES):
        begin = time.perf_counter()
        picture = render()
        times.append(time.perf_counter() - begin)
    way, renderer = describe()
    return Drawn(way, renderer, build, statistics.median(times), picture.shape[0], float(picture.std()))


Scene = tuple[Callable[[], np.ndarray], Callable[[], tuple[str, str]]]
"""A function that draws the scene, uint8 [H, W, 3], and one that then says by which way and renderer."""


def libero_scene(config: EnvConfig) -> Scene:
    """The first task of the config's in MuJoCo."""
    from siirl.envs.libero.simulator import Simulator
    from siirl.envs.libero.suites import find_task

    task = find_task(config.env_name, (config.task_ids or [0])[0])
    simulator = Simulator(task, config.image_size, config.antialiasing, config.max_texture_size, settle_steps=0)
    simulator.reset(0, seed=0)

    def describe() -> tuple[str, str]:
        from OpenGL import GL  # only now: MuJoCo has chosen its platform

        return os.environ["MUJOCO_GL"].upper().replace("OSMESA", "OSMesa"), GL.glGetString(GL.GL_RENDERER).decode()

    return simulator.render, describe


def maniskill_scene(config: EnvConfig) -> Scene:
    """The first task of the config's in SAPIEN, one scene of it."""
    from siirl.envs.maniskill.simulator import Simulator
    from siirl.envs.maniskill.suites import SUITES

    simulator = Simulator(SUITES.get(config.env_name), config)
    simulator.reset(0, (config.task_ids or [0])[0], 0)

    def describe() -> tuple[str, str]:
        import sapien

        lines = sapien.render.get_device_summary().splitlines()
        names = [line.removeprefix("GPU:").strip() for line in lines if line.startswith("GPU:")]
        software = [name for name in names if any(known in name.lower() for known in SOFTWARE)]
        return "Vulkan", next(iter(software if config.sim_backend == "cpu" and software else names), "unknown")

    return lambda: simulator.render()[0][0], describe


SCENES: dict[str, Callable[[EnvConfig], Scene]] = {"libero": libero_scene, "maniskill": maniskill_scene}


def main() -> int:
    """Draw as stdin says; returns the exit code: 0, or 2 with what is missing on stderr."""
    try:
        drawn = draw(EnvConfig(**json.load(sys.stdin)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(dataclasses.asdict(drawn)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
