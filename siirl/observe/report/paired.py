"""Evaluations of the same episodes on one page: how each differs from the first, trial by trial, as `siirl compare` tells it."""

from collections.abc import Sequence

from siirl.observe.pairing import LETTERS, Measured, cells, check_pairs, groups, heads, notes, pairs_of, read
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.run import Run
from siirl.observe.report.tables import numbers_table

HOW = (
    "Success in percent; the difference with the 95 % interval of two paired proportions (Newcombe 1998, method 10), from "
    "episodes of the same task, trial and repetition; how many of them only one of the two solved; and p of McNemar's exact "
    "test. docs/evaluation.md says how to read it."
)


def paired(runs: Sequence[Run]) -> list[Child]:
    """A table for each evaluation after the first, or why there is none; nothing where there are no two evaluations."""
    evaluations = [run for run in runs if run.results is not None]
    shown: list[Child] = [
        _difference(evaluations[0], other, letter) for letter, other in zip(LETTERS, evaluations[1:], strict=False)
    ]
    if left := [run.name for run in evaluations[1 + len(LETTERS) :]]:
        shown.append(_card(f"At most {len(LETTERS)} are compared with the first; not {', '.join(left)}."))
    return shown


def _difference(first: Run, second: Run, letter: str) -> Html:
    try:
        one, other = (read(run.folder, run.name) for run in (first, second))
        check_pairs(one, other)
    except ValueError as error:
        return _card(f"No paired difference: {error}.")
    head = tag("figcaption", tag("h3", f"A = {one.name}, {letter} = {other.name}"))
    told = tag("ul", [tag("li", line) for line in notes(one, other)])
    return tag("figure", head, _table(one, other, letter), tag("p", HOW, class_="how"), told, class_="card wide")


def _card(sentence: str) -> Html:
    return tag("div", tag("p", sentence, class_="lead"), class_="card wide")


def _table(one: Measured, other: Measured, letter: str) -> Html:
    """A line for each task, suite and, where there are several, for all."""
    rows = []
    for name, keys, is_sum in groups(one):
        shown = [tag("td", text) for text in cells(pairs_of(one, other, keys))]
        rows.append(tag("tr", tag("th", tag("b", name) if is_sum else name, class_="text", scope="row"), shown))
    return numbers_table(tag("tr", tag("th", "task"), [tag("th", text) for text in heads(letter)]), rows)
