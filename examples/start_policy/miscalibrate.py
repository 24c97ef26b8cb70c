"""Give a policy a calibration error, always the same, as on another robot than the demonstrations'.

``python examples/start_policy/miscalibrate.py FOLDER DX DY DZ`` moves statistics of a policy folder along the robot's axes: by
default those of proprioception, by metres, so that with 0 0 0.015 the policy takes every height for 1.5 cm less than it is. With
``--of action`` those of actions, in LIBERO's unit (1: the controller's goal moves by 5 cm in a step): with 0 0 0.3 every
action goes 1.5 cm a step higher than the policy means; one that sees its hand corrects some of that.
Called again with the opposite numbers, a policy is as before.
"""

import argparse
import json
from pathlib import Path

POSITIONS = ("mean", "min", "max", "q01", "q99")
"""The statistics that move with what they are of; ``std`` does not."""


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="policy folder, changed in place")
    parser.add_argument("offset", type=float, nargs=3, help="along x, y and z: metres, or units of actions")
    parser.add_argument("--of", choices=("proprio", "action"), default="proprio", help="whose statistics")
    given = parser.parse_args(arguments)
    file = given.folder / "dataset_statistics.json"
    statistics = json.loads(file.read_text())
    for suite in statistics.values():
        move(suite[given.of], given.offset)
    file.write_text(json.dumps(statistics, indent=2) + "\n")


def move(statistics: dict[str, list[float]], offset: list[float]) -> None:
    """Add ``offset`` to the first three dimensions, of LIBERO's proprioception or actions the hand's position, in place."""
    for name in POSITIONS:
        position, rest = statistics[name][:3], statistics[name][3:]
        statistics[name] = [value + more for value, more in zip(position, offset, strict=True)] + rest


if __name__ == "__main__":
    main()
