"""Evaluations of the same episodes, pair by pair: which can be paired, how the pairs ended, and what else differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siirl.config.checks import ENV
from siirl.config.problems import show
from siirl.data.trajectory import EpisodeSpec
from siirl.observe.episodes import EpisodeRow, read_episodes
from siirl.observe.results import percent, read_results
from siirl.observe.statistics import Pairs, mcnemar, paired_interval

Key = tuple[str, int, int, int]
"""Suite, task, trial and repetition: what an episode is told by."""
LETTERS = "BCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What the evaluations are called that are compared with the first one."""
SAME = ("trainer.seed", f"{ENV}.env_type", f"{ENV}.max_steps", f"{ENV}.num_steps_wait")
"""Settings that make a pair of episodes one task; others may differ, and are told."""


def key_of(episode: EpisodeSpec | EpisodeRow) -> Key:
    """What an episode is told by."""
    return episode.suite, episode.task_id, episode.trial_id, episode.index


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


def read_all(folders: Sequence[Path]) -> list[Measured]:
    """The evaluations, named by their folders' names where these tell them apart.

    Raises:
        ValueError: a folder holds none, or one that is not complete.
    """
    names = [folder.resolve().name for folder in folders]
    return [
        read(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]


def read(folder: Path, name: str) -> Measured:
    """The evaluation in a folder.

    Raises:
        ValueError: as `read_all`.
    """
    results = read_results(folder)
    rows = [EpisodeRow(**values) for values in read_episodes(folder).to_pylist()]
    if not results["complete"]:
        raise ValueError(f"the evaluation in {folder} is not complete ({len(rows)} episodes); run its command again")
    return Measured(name, folder, results, {key_of(row): row for row in rows})


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


def groups(measured: Measured) -> Iterator[tuple[str, list[Key], bool]]:
    """What rates are told of: each task, then its suite, and all suites where there are several. With the name, the episodes,
    and whether it is a sum of others."""
    suites = list(dict.fromkeys(key[0] for key in measured.rows))
    for suite in suites:
        of_suite = [key for key in measured.rows if key[0] == suite]
        for task in sorted({key[1] for key in of_suite}):
            of_task = [key for key in of_suite if key[1] == task]
            yield f"{task} {measured.rows[of_task[0]].instruction}", of_task, False
        yield suite, of_suite, True
    if len(suites) > 1:
        yield f"all {len(suites)} suites", list(measured.rows), True


def heads(letter: str) -> tuple[str, ...]:
    """Of the columns of `cells`, where the first evaluation is called A and the other one ``letter``."""
    return "A", letter, f"{letter} − A", "95 %", f"only A / {letter}", "p"


def cells(pairs: Pairs) -> tuple[str, ...]:
    """Both rates and their difference in percent, its 95 % interval, how many only one of them solved, and McNemar's p."""
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
    for key in left:
        if key in right and left[key] != right[key]:  # earlier versions did not know every key
            yield f"they differ in {key}: {show(left[key])} and {show(right[key])}"
    if one.results["weights"] == other.results["weights"]:
        yield "both are of the same weights"
    for measured in (one, other):
        if dropped := sum(measured.results["total"]["dropped"].values()):
            yield f"{measured.name}: {dropped} episodes were dropped and count as failures"
