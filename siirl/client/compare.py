"""``siirl compare A B [C …]``: evaluations of the same episodes beside the first of them, pair by pair."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from siirl.client.evaluation import Key, key_of
from siirl.config.checks import ENV
from siirl.config.problems import show
from siirl.observe.episodes import EpisodeRow, read_episodes
from siirl.observe.results import label, new_table, percent, read_results
from siirl.observe.statistics import Pairs, mcnemar, paired_interval

SAME = ("trainer.seed", f"{ENV}.env_type", f"{ENV}.max_steps", f"{ENV}.num_steps_wait")
"""Settings that make a pair of episodes one task; others may differ, and are told."""
LETTERS = "BCDEFGHIJKLMNOPQRSTUVWXYZ"
DESCRIPTION = """\
Compare evaluations episode by episode: difference in success with a 95 % interval, and McNemar's exact test, per task, per
suite and in all. Each of the others is compared with the first. docs/evaluation.md says how to read it."""


@dataclass(frozen=True)
class Measured:
    """A complete evaluation.

    Attributes:
        name: what to call it by.
        folder: where it lies.
        results: its ``results.json``.
        rows: its episodes.
    """

    name: str
    folder: Path
    results: dict[str, Any]
    rows: dict[Key, EpisodeRow]


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


def read_all(folders: Sequence[Path]) -> list[Measured]:
    """The evaluations, named by their folders' names where these tell them apart.

    Raises:
        ValueError: a folder holds none, or one that is not complete.
    """
    names = [folder.resolve().name for folder in folders]
    found = []
    for folder, name in zip(folders, names, strict=True):
        results = read_results(folder)
        rows = [EpisodeRow(**values) for values in read_episodes(folder).to_pylist()]
        if not results["complete"]:
            raise ValueError(
                f"the evaluation in {folder} is not complete ({len(rows)} episodes); run its command again"
            )
        label = name if names.count(name) == 1 else str(folder)
        found.append(Measured(label, folder, results, {key_of(row): row for row in rows}))
    return found


def check_pairs(one: Measured, other: Measured) -> None:
    """Each episode of one evaluation must have its like in the other.

    Raises:
        ValueError: they ran other suites, tasks, trials or repetitions, with other seeds, or under other rules.
    """
    where = f"{one.folder} and {other.folder} cannot be paired"
    for index, what in enumerate(("suites", "tasks", "trials", "repetitions"), start=1):
        left, right = ({key[:index] for key in measured.rows} for measured in (one, other))
        if left != right:
            lacking, missing = (other, left - right) if left - right else (one, right - left)
            example = "/".join(map(str, min(missing)))
            raise ValueError(f"{where}: they ran other {what}; {lacking.folder} lacks {len(missing)}, e.g. {example}")
    for key in SAME:
        first, second = (show(measured.results["settings"].get(key)) for measured in (one, other))
        if first != second:
            raise ValueError(f"{where}: {key}={first} in the first and {second} in the second; run one of them anew")
    if any(one.rows[key].env_seed != other.rows[key].env_seed for key in one.rows):
        raise ValueError(f"{where}: their simulators had other seeds; run one of them anew")


def pairs_of(one: Measured, other: Measured, keys: Sequence[Key]) -> Pairs:
    """How the pairs of some episodes ended."""
    ends = [(one.rows[key].success, other.rows[key].success) for key in keys]
    return Pairs(*(ends.count(end) for end in ((True, True), (True, False), (False, True), (False, False))))


def show_comparison(one: Measured, other: Measured, letter: str, console: Console) -> None:
    """Print how ``other``, called ``letter``, differs from ``one``, called A: a line per task, suite and, where there are several
    suites, for all."""
    console.print(f"A = {one.name}, {letter} = {other.name}", soft_wrap=True)
    table = new_table("A", letter, f"{letter} − A", "95 %", f"only A / {letter}", "p")
    suites = list(dict.fromkeys(key[0] for key in one.rows))
    for suite in suites:
        of_suite = [key for key in one.rows if key[0] == suite]
        for task in sorted({key[1] for key in of_suite}):
            of_task = [key for key in of_suite if key[1] == task]
            name = f"{task} {one.rows[of_task[0]].instruction}"
            table.add_row(label(name), *_cells(pairs_of(one, other, of_task)))
        table.add_row(label(suite), *_cells(pairs_of(one, other, of_suite)), style="bold")
    if len(suites) > 1:
        table.add_row(f"all {len(suites)} suites", *_cells(pairs_of(one, other, list(one.rows))), style="bold")
    console.print(table)
    for line in notes(one, other):
        console.print(line, soft_wrap=True)


def _cells(pairs: Pairs) -> tuple[str, ...]:
    rates = ((pairs.both + alone) / pairs.count for alone in (pairs.first, pairs.second))
    low, high = paired_interval(pairs)
    return (
        *map(percent, rates),
        f"{100 * pairs.difference:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        f"{pairs.first} / {pairs.second}",
        _p(mcnemar(pairs)),
    )


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def notes(one: Measured, other: Measured) -> Iterator[str]:
    """What else differs between them, and what a reader should know."""
    left, right = one.results["settings"], other.results["settings"]
    for key in dict.fromkeys([*left, *right]):
        if left.get(key) != right.get(key):
            yield f"they differ in {key}: {show(left.get(key))} and {show(right.get(key))}"
    if one.results["weights"] == other.results["weights"]:
        yield "both are of the same weights"
    for measured in (one, other):
        if dropped := sum(measured.results["total"]["dropped"].values()):
            yield f"{measured.name}: {dropped} episodes were dropped and count as failures"


if __name__ == "__main__":
    sys.exit(main())
