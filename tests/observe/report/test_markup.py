"""Markup: whatever comes from data is text, never markup."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.observe.report.axes import axis, count, percent, plain, seconds, steps_axis, whole
from siirl.observe.report.markup import join, tag


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, name: str, attributes: list) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")))


@given(TEXT, TEXT)
def test_any_text_stays_text(inside: str, attribute: str) -> None:
    seen = Seen()
    seen.feed(tag("p", inside, data_tip=attribute))
    seen.close()
    assert seen.tags == [("p", {"data-tip": attribute})]
    assert seen.text == inside


def test_children_are_flattened_and_nothing_is_left_out_by_mistake() -> None:
    assert tag("p", ["a", None, [tag("b", "<"), 0]], class_="x", hidden=True, title=None) == (
        '<p class="x" hidden>a<b>&lt;</b>0</p>'
    )
    assert join("&", tag("br")) == "&amp;<br>"


@given(st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_an_axis_holds_its_values_between_few_round_ticks(values: list[float]) -> None:
    found = axis(values, "", plain)
    places = found.at(np.array(values))
    assert all(-1e-6 <= place <= 1000 + 1e-6 for place in places)
    assert 2 <= len(found.ticks) <= 7
    assert list(found.ticks) == sorted(set(found.ticks))
    assert [float(found.written(tick)) for tick in found.ticks] == list(found.ticks)


def test_ticks_that_are_close_to_each_other_do_not_read_alike() -> None:
    rates = axis([1e-5, 9.92e-6], "", plain)
    assert [rates.written(tick) for tick in rates.ticks] == ["9.92e-6", "9.94e-6", "9.96e-6", "9.98e-6", "1e-5"]
    lengths = axis([0, 9], "steps", whole)
    assert [lengths.written(tick) for tick in lengths.ticks] == ["0", "2.5", "5", "7.5", "10"]


@pytest.mark.parametrize(("last", "ticks"), [(1, (1,)), (6, (1, 2, 3, 4, 5, 6)), (200, (50, 100, 150, 200))])
def test_steps_are_ticked_in_whole_numbers(last: int, ticks: tuple[int, ...]) -> None:
    assert steps_axis(last, 1).ticks == ticks


def test_numbers_are_written_for_people() -> None:
    assert [plain(value) for value in (0, 0.123456, 12.3456, 5e-6, 123456, float("nan"))] == [
        *("0", "0.123", "12.3", "5e-6", "1.23e5", "—"),
    ]
    assert [seconds(value) for value in (0.0102, 0.24, 48.2, 140, 840, 12000)] == [
        *("10 ms", "0.24 s", "48 s", "2 min 20 s", "14 min", "3 h 20 min"),
    ]
    assert percent(0.5) == "50\u202f%"
    assert count(122900) == "122\u202f900"
