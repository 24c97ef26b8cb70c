"""The picture of an iteration: what is drawn where, and the shares of the time."""

import math
import re

import numpy as np
import pytest

from siirl.observe.report.gantt import COLUMNS, Lane, drawing, idle_share, read_step, shares_table
from siirl.observe.timeline import Clock, Event, Recording, timeline_row

HERE = Clock("here", 0.0)


def row(**lanes: list[tuple[str, float, float]]) -> dict:
    events = [Event(lane.replace("_", " "), kind, a, b) for lane, spans in lanes.items() for kind, a, b in spans]
    return timeline_row(2, 0.0, 10.0, HERE, [Recording("slot 0", HERE, events, -math.inf)])


def test_shares_add_up_and_idle_is_what_nothing_fills() -> None:
    spans = [("reset", 0.0, 1.0), ("sim", 1.0, 4.0), ("wait", 4.0, 5.0), ("policy", 5.0, 6.0), ("weights", 8.0, 10.0)]
    step = read_step(row(simulator_0=spans, simulator_1=[("sim", 0.0, 10.0)], policy=[("policy", 5.0, 6.0)]))
    shares = step.shares("simulator")
    expected = {"reset": 0.05, "sim": 0.65, "wait": 0.05, "policy": 0.05, "weights": 0.1, "idle": 0.1}
    assert shares == pytest.approx(expected)
    assert idle_share(step) == pytest.approx(0.25)
    table = str(shares_table(step))
    assert "simulator × 2" in table
    assert "simulates 65.0\u202f%" in table


def test_a_bar_lies_where_its_time_is() -> None:
    lane = Lane("slot 0 · simulator 0", {"sim": np.array([[2.0, 3.0], [3.0, 4.0]]), "reset": np.array([[5.0, 10.0]])})
    drawn = {
        kind: [tuple(map(int, bar)) for bar in re.findall(r"M(\d+) 0h(\d+)", path)] for path, kind in lane.drawn(10.0)
    }
    assert drawn == {"sim": [(COLUMNS // 5, COLUMNS // 5)], "reset": [(COLUMNS // 2, COLUMNS // 2)]}


def test_a_thousand_short_events_become_few_bars() -> None:
    spans = [(("sim", "wait")[i % 2], i / 1000, (i + 1) / 1000) for i in range(10_000)]
    picture = drawing(read_step(row(simulator_0=spans)))
    assert len(picture) < 60_000


def test_no_simulators_no_idle_share() -> None:
    assert idle_share(read_step(row(actor=[("update", 0.0, 1.0)]))) is None


def test_simulators_come_first_in_their_order_and_what_is_short_is_seen() -> None:
    names = {
        key: [("reset", 0.0, 0.001), ("sim", 0.001, 9.0)] for key in ("policy", "simulator_10", "simulator_2", "actor")
    }
    step = read_step(row(**names))
    assert [lane.name.removeprefix("slot 0 · ") for lane in step.lanes] == [
        "simulator 2",
        "simulator 10",
        "policy",
        "actor",
    ]
    assert {kind for _, kind in step.lanes[0].drawn(10.0)} == {"reset", "sim"}
