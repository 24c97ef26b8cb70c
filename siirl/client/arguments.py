"""Types of command-line arguments that several commands share."""

import argparse
import math
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """A whole number that is not smaller than ``minimum``, as an argparse type."""

    def whole_number(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a whole number ≥ {minimum}")
        return int(text)

    return whole_number


def parse_ids(text: str) -> list[int]:
    """Numbers and inclusive ranges: ``0-3,7`` → [0, 1, 2, 3, 7].

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise argparse.ArgumentTypeError(
                f"{part!r} is no number or range; allowed: numbers and ranges such as 0-3,7"
            )
        ids.extend(range(int(first), int(last or first) + 1))
    return ids


def parse_noises(text: str) -> list[float]:
    """Numbers with commas between them.

    Raises:
        argparse.ArgumentTypeError: anything else, or a negative number.
    """
    try:
        noises = [float(part) for part in text.split(",")]
    except ValueError:
        noises = []
    if not noises or not all(0 <= noise < math.inf for noise in noises):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: numbers ≥ 0 such as 0.2,0.1,0.0")
    return noises


def probability(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a number from 0 to 1")
    return value
