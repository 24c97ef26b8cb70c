"""Give a policy that regresses actions a calibration error: its arm does something else than what it commands, always the same.

``python examples/starvla/miscalibrate.py FOLDER DX DY DZ`` moves the action statistics of a policy folder along the robot's
axes, in the unit of LIBERO's actions (1: the controller's goal moves by 5 cm in a step). With 0 0 0.3 every action goes 1.5 cm a
step higher than the policy means; a policy that sees its hand corrects most of that, and ends about 1 cm too high. Called again
with the opposite numbers, it is as before.
"""

import argparse
import json
from pathlib import Path

POSITIONS = ("mean", "min", "max", "q01", "q99")
"""The statistics that are actions themselves; ``std`` does not move."""


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="policy folder, changed in place")
    parser.add_argument("offset", type=float, nargs=3, help="actions along x, y and z")
    given = parser.parse_args(arguments)
    file = given.folder / "dataset_statistics.json"
    statistics = json.loads(file.read_text())
    for suite in statistics.values():
        move(suite["action"], given.offset)
    file.write_text(json.dumps(statistics, indent=2) + "\n")


def move(action: dict[str, list[float]], offset: list[float]) -> None:
    """Add ``offset`` to the first three dimensions of LIBERO's actions, in place."""
    for name in POSITIONS:
        position, rest = action[name][:3], action[name][3:]
        action[name] = [value + more for value, more in zip(position, offset, strict=True)] + rest


if __name__ == "__main__":
    main()
