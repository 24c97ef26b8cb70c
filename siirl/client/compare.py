"""``siirl compare A B [C …]``: evaluations of the same episodes beside the first of them, pair by pair."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from siirl.observe.pairing import LETTERS, Measured, cells, check_pairs, groups, heads, notes, pairs_of, read_all
from siirl.observe.results import label, new_table

DESCRIPTION = """\
Compare evaluations episode by episode: difference in success with a 95 % interval, and McNemar's exact test, per task, per
suite and in all. Each of the others is compared with the first. docs/evaluation.md says how to read it."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 for evaluations that cannot be compared."""
    parser = argparse.ArgumentParser("siirl compare", description=DESCRIPTION)
    parser.add_argument("first", type=Path, metavar="A", help="folder of an evaluation")
    parser.add_argument(
        "others", type=Path, nargs="+", metavar="B", help="folders of the evaluations to compare it with"
    )
    given = parser.parse_args(argv)
    if len(given.others) > len(LETTERS):
        parser.error(f"{len(given.others)} evaluations beside the first; allowed: at most {len(LETTERS)}")
    console = Console(highlight=False)
    try:
        first, *others = read_all([given.first, *given.others])
        for other in others:
            check_pairs(first, other)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for letter, other in zip(LETTERS, others, strict=False):
        show_comparison(first, other, letter, console)
    return 0


def show_comparison(one: Measured, other: Measured, letter: str, console: Console) -> None:
    """Print how ``other``, called ``letter``, differs from ``one``, called A: a line per task, suite and, where there are several
    suites, for all."""
    console.print(f"A = {one.name}, {letter} = {other.name}", soft_wrap=True)
    table = new_table(*heads(letter))
    for name, keys, is_sum in groups(one):
        table.add_row(label(name), *cells(pairs_of(one, other, keys)), style="bold" if is_sum else None)
    console.print(table)
    for line in notes(one, other):
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
