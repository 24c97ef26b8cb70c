"""``python -m siirl.envs.maniskill``: whether this machine can run and draw ManiSkill; exit code 1 and what is missing if not."""

import sys

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.package import MANISKILL_VERSION, check_installed, check_rendering


def main() -> int:
    """Print what there is; returns the exit code."""
    try:
        check_installed()
        check_rendering(EnvConfig(env_type="maniskill"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ManiSkill {MANISKILL_VERSION} can draw on this machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
