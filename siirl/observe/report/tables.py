"""Tables of numbers."""

from collections.abc import Sequence

from siirl.observe.report.axes import percent
from siirl.observe.report.headline import interval
from siirl.observe.report.markup import Child, Html, number, tag
from siirl.observe.report.numbers import Rate


def numbers_table(head: Html, rows: Sequence[Html]) -> Html:
    """A table in a box that scrolls where the page is narrow, also by the keys of a keyboard."""
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="numbers")
    return tag("div", table, class_="scroll", tabindex=0)


def numbers_figure(head: Html, rows: Sequence[Html], how: Child) -> Html:
    """A table, and how its numbers were computed."""
    return tag("figure", numbers_table(head, rows), tag("p", how, class_="how"), class_="card wide")


def rate_cell(rate: Rate | None) -> Html:
    """A cell with a rate, its interval as a bar, and its numbers."""
    if rate is None:
        return tag("td", "—")
    low, high = rate.interval
    span = tag("i", class_="range", style=f"left:{number(low * 100)}%;width:{number((high - low) * 100)}%")
    mark = tag("i", class_="mark", style=f"left:{number(rate.value * 100)}%")
    return tag(
        "td", tag("b", percent(rate.value)), tag("span", span, mark, class_="interval"), tag("small", interval(rate))
    )
