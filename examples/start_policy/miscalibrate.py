"""Give a policy a calibration error: it takes its gripper to be elsewhere, as on another robot than the demonstrations'.

``python examples/start_policy/miscalibrate.py FOLDER DX DY DZ`` moves the proprioception statistics of a policy folder
by metres along the robot's axes. With 0 0 0.015 the policy takes every height for 1.5 cm less than it is; called again with
the opposite numbers, it is as before.
"""

import argparse
import json
from pathlib import Path

POSITIONS = ("mean", "min", "max", "q01", "q99")
"""The statistics that are positions themselves; ``std`` does not move."""


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="policy folder, changed in place")
    parser.add_argument("offset", type=float, nargs=3, help="metres along x, y and z")
    given = parser.parse_args(arguments)
    file = given.folder / "dataset_statistics.json"
    statistics = json.loads(file.read_text())
    for suite in statistics.values():
        move(suite["proprio"], given.offset)
    file.write_text(json.dumps(statistics, indent=2) + "\n")


def move(proprio: dict[str, list[float]], offset: list[float]) -> None:
    """Add ``offset`` (m) to the gripper's position, the first three values of LIBERO's proprioception, in place."""
    for name in POSITIONS:
        position, rest = proprio[name][:3], proprio[name][3:]
        proprio[name] = [value + metres for value, metres in zip(position, offset, strict=True)] + rest


if __name__ == "__main__":
    main()
