"""Types of command-line arguments that several commands share."""

import argparse
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """A whole number that is not smaller than ``minimum``, as an argparse type."""

    def whole_number(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a whole number ≥ {minimum}")
        return int(text)

    return whole_number
