"""Who did what when: every process notes it, and of some steps the driver writes it to ``timeline.jsonl``.

Noting an event appends a tuple to a list with a bound; nothing is sent before the driver asks. Times are those of the process's
monotonic clock. Processes of one machine share that clock; between machines, their wall clocks (NTP) tell how far the
monotonic ones are apart.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

TIMELINE = "timeline.jsonl"

MOST_EVENTS = 50_000
"""Events that a process keeps, some 8 MB; older ones are forgotten, and missed where the step needs them."""

MOST_WORKERS = 16
"""Node workers that the driver asks; what they do tells what all of them do."""


@dataclass(frozen=True)
class Clock:
    """A machine's monotonic clock.

    Attributes:
        boot: names the machine and its last start.
        zero: wall time at which it read 0, seconds since 1970.
    """

    boot: str
    zero: float

    @staticmethod
    def here() -> "Clock":
        """This process's clock, beside the wall clock of now."""
        return Clock(_boot(), time.time() - time.monotonic())

    def ahead_of(self, other: "Clock") -> float:
        """Seconds to add to this clock's times to get those of ``other``; exactly 0 on one machine."""
        return 0.0 if self.boot == other.boot else self.zero - other.zero


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:  # not Linux: one machine, whatever it is called
        import platform

        return platform.node()


class Span(NamedTuple):
    """From when to when something took place, and on which clock, seconds."""

    start: float
    end: float
    clock: Clock

    def on(self, clock: Clock) -> "Span":
        """The same on another machine's clock."""
        shift = self.clock.ahead_of(clock)
        return Span(self.start + shift, self.end + shift, clock)


class Event(NamedTuple):
    """One thing that a process did.

    Attributes:
        lane: who, e.g. ``simulator 2`` or ``policy``.
        kind: what, e.g. ``reset``; `siirl.observe.report.gantt` has what each is called.
        start, end: monotonic time, seconds.
        size: episodes, or rows of a batch, that it was done for.
    """

    lane: str
    kind: str
    start: float
    end: float
    size: int = 1


@dataclass(frozen=True)
class Recording:
    """What one process noted.

    Attributes:
        process: its name, unique in the run.
        clock: what its times refer to.
        events: in the order of their ends.
        since: events that ended before this time may have been forgotten; −∞ where none was.
    """

    process: str
    clock: Clock
    events: list[Event]
    since: float


class Notebook:
    """Notes what a process does; may be used from any of its threads.

    Args:
        process: its name.
        most: events that are kept, the newest.
    """

    def __init__(self, process: str, most: int = MOST_EVENTS) -> None:
        self.process = process
        self._events: deque[Event] = deque(maxlen=most)

    def note(self, lane: str, kind: str, start: float, end: float, size: int = 1) -> None:
        """Append an event."""
        self._events.append(Event(lane, kind, start, end, size))

    @contextmanager
    def span(self, lane: str, kind: str, size: int = 1) -> Iterator[None]:
        """Note how long a block takes, also one that fails."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.note(lane, kind, start, time.monotonic(), size)

    def recording(self, since: float = -math.inf, clock: Clock | None = None) -> Recording:
        """What was noted and ended at time ``since`` of ``clock``, the process's own by default, or later."""
        here = Clock.here()
        after = since + (clock or here).ahead_of(here)
        events = list(self._events)
        full = len(events) == self._events.maxlen
        recent = [event for event in events if event.end >= after]
        return Recording(self.process, here, recent, events[0].end if full else -math.inf)


def timeline_row(step: int, start: float, end: float, clock: Clock, recordings: Sequence[Recording]) -> dict[str, Any]:
    """A line of ``timeline.jsonl``: what took place in a step, cut at its ends.

    Args:
        step: the training step.
        start, end: its own, on ``clock``.
        clock: the driver's.
        recordings: of the driver and the workers.

    Returns:
        ``step``; ``seconds`` that it took; ``lanes`` and ``kinds``, names; ``events``, each ``[lane, kind, start, end, size]``
        with numbers of these and milliseconds since the step's start; ``missing``: seconds at its beginning of which a process
        has forgotten events.
    """
    lanes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    events = []
    forgotten = start
    for recording in recordings:
        shift = recording.clock.ahead_of(clock)
        forgotten = max(forgotten, recording.since + shift)
        for event in sorted(recording.events, key=lambda event: event.start):
            first, last = max(event.start + shift, start), min(event.end + shift, end)
            if first < last:
                parts = dict.fromkeys((recording.process, event.lane))  # the driver's only lane is called as itself
                lane = lanes.setdefault(" · ".join(parts), len(lanes))
                kind = kinds.setdefault(event.kind, len(kinds))
                events.append([lane, kind, _milliseconds(first - start), _milliseconds(last - start), event.size])
    return {
        "step": step,
        "seconds": round(end - start, 3),
        "missing": round(forgotten - start, 3),
        "lanes": list(lanes),
        "kinds": list(kinds),
        "events": events,
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
