"""``python -m siirl.envs.maniskill``: whether this machine can run and draw ManiSkill; exit code 1 and what is missing if not."""

import sys

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.package import check_installed, check_rendering
from siirl.envs.maniskill.vulkan import find_devices


def main() -> int:
    """Print what there is; returns the exit code."""
    try:
        check_installed()
        check_rendering(EnvConfig(env_type="maniskill"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ManiSkill can draw with {', '.join(device.name for device in find_devices())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
