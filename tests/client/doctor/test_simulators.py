"""The simulators' lines, with one real frame; what a process that fails to draw leaves behind, in each kind."""

import json
import sys
from dataclasses import asdict

import pytest

from siirl.client.doctor import simulators
from siirl.client.doctor.simulators import frame_line, tasks_line
from siirl.client.frame import Drawn
from siirl.config.schema import EnvConfig
from tests.envs.maniskill.conftest import require_drawing

LIBERO = EnvConfig(image_size=64, antialiasing=False, max_texture_size=64)
PICK = EnvConfig(env_type="maniskill", env_name="PickCube-v1", image_size=64)


def program(drawn: Drawn) -> list[str]:
    """A process that says it has drawn so."""
    return [sys.executable, "-c", f"print({json.dumps(json.dumps(asdict(drawn)))})"]


def test_a_real_frame_of_libero() -> None:
    line = frame_line(LIBERO, [sys.executable, "-m", "siirl.client.frame"], gpu=False)
    assert line.level in ("pass", "warn"), line
    assert "LIBERO through EGL in software, llvmpipe" in line.text or "on the GPU" in line.text
    assert "ms for a frame of 64²" in line.text


def test_a_real_frame_of_maniskill() -> None:
    require_drawing()
    line = frame_line(PICK, [sys.executable, "-m", "siirl.client.frame"], gpu=False)
    assert line.level in ("pass", "warn"), line
    assert "ManiSkill through Vulkan in software, llvmpipe" in line.text or "on the GPU" in line.text


SOFTWARE = Drawn("EGL", "llvmpipe (LLVM 15.0.6, 256 bits)", 5.0, 0.07, 256, 40.0)


@pytest.mark.parametrize(
    ("drawn", "gpu", "level", "told"),
    [
        (SOFTWARE, False, "pass", "in software, llvmpipe"),
        (SOFTWARE, True, "warn", "NVIDIA_DRIVER_CAPABILITIES"),
        (Drawn("EGL", "NVIDIA H200/PCIe/SSE2", 5.0, 0.004, 256, 40.0), True, "pass", "on the GPU"),
        (Drawn("EGL", "llvmpipe", 5.0, 0.9, 256, 40.0), False, "warn", "env.antialiasing=false"),
        (Drawn("EGL", "llvmpipe", 5.0, 0.07, 256, 0.0), False, "fail", "the frame is blank"),
    ],
)
def test_what_was_drawn_is_judged(drawn: Drawn, gpu: bool, level: str, told: str) -> None:
    line = frame_line(EnvConfig(), program(drawn), gpu=gpu)
    assert line.level == level
    assert told in line.text + line.fix


@pytest.mark.parametrize(
    ("code", "told", "fix"),
    [
        ("raise SystemExit('no such driver')", "LIBERO: no such driver", "MUJOCO_GL=osmesa"),
        ("import os; os.abort()", "LIBERO: was ended by signal 6", "MUJOCO_GL=osmesa"),
        ("import sys; print('no EGL here; apt-get it', file=sys.stderr); sys.exit(2)", "no EGL here", "apt-get it"),
    ],
)
def test_a_process_that_draws_nothing(code: str, told: str, fix: str) -> None:
    line = frame_line(EnvConfig(), [sys.executable, "-c", code])
    assert (line.level, line.text) == ("fail", told)
    assert fix in line.fix


def test_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators, "DRAW_SECONDS", 0.2)
    line = frame_line(EnvConfig(), [sys.executable, "-c", "import time; time.sleep(60)"])
    assert (line.level, line.text) == ("fail", "LIBERO drew no frame within 0.2 s")


def test_a_display_that_cannot_be_used_is_told_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glx")
    line = frame_line(LIBERO, [sys.executable, "-m", "siirl.client.frame"])
    assert (line.level, line.text, line.fix) == (
        "fail",
        "MUJOCO_GL='glx' cannot render off-screen",
        "allowed: egl, osmesa",
    )


def test_tasks() -> None:
    line = tasks_line(EnvConfig(task_ids=[0, 2]), needed=True)
    assert line.level == "pass"
    assert "mujoco 3.3.7, robosuite 1.4.0, 2 tasks of libero_spatial, " in line.text
    line = tasks_line(EnvConfig(env_name="libero_x"), needed=True)
    assert (line.level, "unknown LIBERO suite 'libero_x'" in line.text) == ("fail", True)


def test_a_simulator_that_is_missing_fails_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siirl.envs.maniskill.package.MANISKILL_VERSION", "9.9.9")
    for needed, level in ((True, "fail"), (False, "warn")):
        line = tasks_line(PICK, needed)
        assert line.level == level
        assert line.fix.endswith("install it with: pip install 'siirl[maniskill]'")
