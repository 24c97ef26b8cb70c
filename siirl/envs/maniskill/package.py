"""Finding ManiSkill and a Vulkan driver, and saying what is missing, without importing either here."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from siirl.config.schema import EnvConfig

MANISKILL_VERSION = "3.0.1"
INSTALL_HINT = "install it with: pip install 'siirl[maniskill]'"
ASSETS = "MS_ASSET_DIR"
"""Environment variable from which ManiSkill, when it is imported, takes the folder of its assets."""
PROBE = "import sys, sapien; sapien.render.RenderSystem(sapien.Device(sys.argv[1]))"
"""Whether ManiSkill's renderer accepts a device: SAPIEN's own `can_render` says no to software that works."""
PATIENCE = 120.0
"""Longest that the probe may take, seconds; it takes one of a core."""
SOFTWARE_DRIVER = (
    "a software renderer is enough: Mesa's lavapipe 25 or newer (Mesa 22 is too old). It is installed by: "
    "bash -c 'source scripts/setup.sh && siirl_vulkan'; by hand: apt-get install libvulkan1 mesa-vulkan-drivers, on Debian 12 "
    "libvulkan1 mesa-vulkan-drivers/bookworm-backports (docs/maniskill.md, Drawing)"
)
GPU_DRIVER = (
    "the NVIDIA driver's Vulkan files must be there (in a container NVIDIA_DRIVER_CAPABILITIES must include graphics), or "
    "use env.sim_backend=cpu"
)


def check_installed() -> None:
    """Raises ValueError when ManiSkill is missing or has another version; says the fix."""
    try:
        found = version("mani_skill")
    except PackageNotFoundError:
        raise ValueError(f"env_type=maniskill needs the package mani_skill; {INSTALL_HINT}") from None
    if found != MANISKILL_VERSION:
        raise ValueError(
            f"mani_skill {found} is installed; allowed: {MANISKILL_VERSION}, because tasks and controllers change "
            f"between releases; {INSTALL_HINT}"
        )


def check_rendering(config: EnvConfig) -> None:
    """Raises ValueError when this machine has no Vulkan device that ManiSkill draws with; says the fix.

    Asked in a process of its own, so that a driver that crashes takes nothing with it.
    """
    device, fix = ("cuda", GPU_DRIVER) if config.sim_backend == "gpu" else ("cpu", SOFTWARE_DRIVER)
    command = [sys.executable, "-c", PROBE, device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"ManiSkill cannot draw on this machine with Vulkan: the driver gave no answer within {PATIENCE:g} s, of which it "
            f"needs one of a core; if the machine is busy, try again; else {fix}"
        ) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(f"ManiSkill cannot draw on this machine with Vulkan ({said[-1]}): {fix}")


def asset_folder(config: EnvConfig) -> Path:
    """Where ManiSkill's downloads lie (in ``data``): ``env.asset_dir``, else ``$MS_ASSET_DIR``, else ``~/.maniskill``."""
    return Path(config.asset_dir or os.environ.get(ASSETS) or Path.home() / ".maniskill")


def prepare(config: EnvConfig) -> None:
    """Tell ManiSkill, before it is imported, where its assets are, and let one simulator draw with one thread."""
    os.environ[ASSETS] = str(asset_folder(config))
    os.environ.setdefault("LP_NUM_THREADS", "1")
