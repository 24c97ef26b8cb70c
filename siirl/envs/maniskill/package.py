"""Finding ManiSkill and a Vulkan driver, and saying what is missing, without importing either."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.vulkan import find_devices

MANISKILL_VERSION = "3.0.1"
INSTALL_HINT = "install it with: pip install 'siirl[maniskill]'"
ASSETS = "MS_ASSET_DIR"
"""Environment variable from which ManiSkill, when it is imported, takes the folder of its assets."""
OLDEST_VULKAN = (1, 4)
"""Of a software renderer: Mesa 22 and 23 (1.3) crash in SAPIEN."""
SOFTWARE_DRIVER = (
    "a software renderer is enough: Mesa's lavapipe, 25.0 or newer. `bash -c 'source scripts/setup.sh && siirl_vulkan'` "
    "installs it; by hand: apt-get install libvulkan1 mesa-vulkan-drivers (on Debian 12 mesa-vulkan-drivers/bookworm-backports, "
    "see docs/maniskill.md)"
)
GPU_DRIVER = (
    "the NVIDIA driver's Vulkan files must be installed (libnvidia-gl; in a container NVIDIA_DRIVER_CAPABILITIES must "
    "include graphics), or use env.sim_backend=cpu"
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
    """Raises ValueError when this machine has no Vulkan device that the simulator can draw with; says the fix."""
    devices = find_devices()
    found = f"Vulkan finds {', '.join(device.name for device in devices) or 'no device'} on this machine"
    if config.sim_backend == "gpu":
        if all(device.cpu for device in devices):
            raise ValueError(f"env.sim_backend=gpu draws on a GPU, but {found}: {GPU_DRIVER}")
    elif not any(device.cpu and device.api >= OLDEST_VULKAN for device in devices):
        raise ValueError(f"ManiSkill draws with Vulkan, but {found}: {SOFTWARE_DRIVER}")


def asset_folder(config: EnvConfig) -> Path:
    """Where ManiSkill's downloads lie (in ``data``): ``env.asset_dir``, else ``$MS_ASSET_DIR``, else ``~/.maniskill``."""
    return Path(config.asset_dir or os.environ.get(ASSETS) or Path.home() / ".maniskill")


def prepare(config: EnvConfig) -> None:
    """Tell ManiSkill, before it is imported, where its assets are, and let one simulator draw with one thread."""
    os.environ[ASSETS] = str(asset_folder(config))
    os.environ.setdefault("LP_NUM_THREADS", "1")
