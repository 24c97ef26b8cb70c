"""Notes of what processes do: their bound, their clocks, and the line that they become."""

import math

from hypothesis import given
from hypothesis import strategies as st

from siirl.observe.timeline import Clock, Event, Notebook, Recording, Span, timeline_row

HERE, THERE = Clock("this boot", 1000.0), Clock("another machine", 4000.0)


def test_processes_of_a_machine_share_a_clock_and_machines_are_told_apart_by_their_wall_clocks() -> None:
    assert Clock("this boot", 1000.2).ahead_of(HERE) == 0, "a wall clock that was set meanwhile moves nothing"
    assert Span(1.0, 2.0, THERE).on(HERE) == (3001.0, 3002.0, HERE)
    assert Clock.here().boot == Clock.here().boot != ""


def test_a_notebook_keeps_the_newest_and_says_since_when() -> None:
    book = Notebook("slot 0", most=3)
    assert book.recording().since == -math.inf
    for second in range(5):
        book.note("policy", "policy", second, second + 1)
    recording = book.recording()
    assert [event.start for event in recording.events] == [2, 3, 4]
    assert recording.since == 3


def test_what_fails_is_noted_too() -> None:
    book = Notebook("slot 0")
    try:
        with book.span("actor", "update", 7):
            raise ArithmeticError
    except ArithmeticError:
        pass
    (event,) = book.recording().events
    assert (event.lane, event.kind, event.size) == ("actor", "update", 7)
    assert event.end >= event.start


def test_a_recording_begins_when_the_step_did_however_late_it_is_asked_for() -> None:
    book = Notebook("slot 0")
    for second in range(5):
        book.note("policy", "policy", second, second + 1)
    here = Clock.here()
    assert [event.start for event in book.recording(2.5).events] == [2, 3, 4]
    there = Clock("another machine", here.zero - 100)
    assert [event.start for event in book.recording(102.5, there).events] == [2, 3, 4], "its clock began 100 s earlier"


def test_a_line_is_cut_at_the_steps_ends_and_speaks_of_the_drivers_time() -> None:
    driver = Recording("driver", HERE, [Event("driver", "rollout", 10, 12)], -math.inf)
    slot = Recording(
        "slot 3", THERE, [Event("policy", "policy", -2990.5, -2989), Event("policy", "policy", -2981, -2980)], 7
    )
    row = timeline_row(4, 10.0, 15.0, HERE, [driver, slot])
    assert row["step"] == 4
    assert row["seconds"] == 5
    assert row["lanes"] == ["driver", "slot 3 · policy"]
    assert row["kinds"] == ["rollout", "policy"]
    assert row["events"] == [[0, 0, 0, 2000, 1], [1, 1, 0, 1000, 1]], "the second came after the step"
    assert row["missing"] == 2997


@given(st.lists(st.tuples(st.floats(-10, 30), st.floats(0, 20)), max_size=30), st.floats(-500, 500))
def test_no_event_leaves_the_step(spans: list[tuple[float, float]], ahead: float) -> None:
    other = Clock("another machine", 1000.0 + ahead)
    events = [Event("lane", "kind", start - ahead, start - ahead + length) for start, length in spans]
    row = timeline_row(1, 5.0, 15.0, HERE, [Recording("p", other, events, -math.inf)])
    assert all(0 <= start <= end <= 10_000 for _, _, start, end, _ in row["events"])
    inside = sum(max(0.0, min(s + n, 15) - max(s, 5)) for s, n in spans)
    assert abs(sum(end - start for _, _, start, end, _ in row["events"]) / 1000 - inside) < 0.001 * (len(spans) + 1)
