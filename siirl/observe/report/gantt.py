"""One iteration as a picture: a line for each simulator slot, policy, embedding and update, and for how long each was idle."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from siirl.observe.report.axes import Array, axis, percent, plain, seconds
from siirl.observe.report.chart import share_bar
from siirl.observe.report.markup import Child, Html, number, tag
from siirl.observe.report.run import Row

KINDS = {
    "sim": "simulates",
    "reset": "is reset",
    "policy": "policy acts",
    "wait": "waits for the policy",
    "weights": "waits for new weights",
    "lost": "simulator lost",
    "embed": "embeds videos",
    "update": "updates",
    "sync": "exchanges weights",
    "save": "saves",
    "rollout": "waits for the rollout",
    "embedding": "waits for the embedding",
    "weight_sync": "waits for the exchange of weights",
    "validation": "validates",
    "checkpoint": "saves",
}
"""What an event's kind is called; any other, such as a node's function, under its own name."""

COLORS = {
    **{name: f"k-{name}" for name in KINDS},
    "checkpoint": "k-save",
    "embedding": "k-embed",
    "weight_sync": "k-sync",
}
OTHER, IDLE = "k-other", "k-idle"
WAITING = ("wait", "weights", "lost")
"""Kinds in which a simulator slot does nothing for the run."""

FIRST = "simulator"
"""The role that is drawn before the others of its process."""

COLUMNS = 1200
MOST_LANES = 40


@dataclass(frozen=True)
class Lane:
    """What one of them did.

    Attributes:
        name: e.g. ``slot 0 · simulator 2``.
        events: kind → starts and ends, seconds since the step's start [n, 2].
    """

    name: str
    events: Mapping[str, Array]

    def total(self, kind: str) -> float:
        """Seconds of a kind."""
        return float(np.diff(self.events[kind], axis=1).sum()) if kind in self.events else 0.0

    @property
    def process(self) -> str:
        """Who noted it, e.g. ``slot 0``."""
        return self.name.partition(" · ")[0]

    @property
    def number(self) -> int:
        """The number at the end of its name; 0 without."""
        return int(digits[0]) if (digits := re.findall(r"\d+$", self.name)) else 0

    @cached_property
    def role(self) -> str:
        """``simulator``, ``policy``, ``driver`` and so on."""
        return re.sub(r"\s*\d+$", "", self.name.rpartition("· ")[2])

    def drawn(self, length: float) -> list[tuple[str, str]]:
        """Path and kind of the bars: time is cut into columns, and each shows what fills most of it. A kind that is nowhere
        the most is shown wherever it took place."""
        edges = np.linspace(0, length, COLUMNS + 1)
        kinds = list(self.events)
        filled = np.stack([_coverage(self.events[kind], edges) for kind in kinds])
        idle = np.diff(edges) - filled.sum(axis=0)
        shown = np.concatenate([idle[None], filled]).argmax(axis=0)
        for index in range(1, len(kinds) + 1):
            if index not in shown:
                shown[filled[index - 1] > 0] = index
        ends = np.flatnonzero(np.diff(shown)) + 1
        paths: dict[int, list[str]] = defaultdict(list)
        for first, last in zip([0, *ends], [*ends, COLUMNS], strict=True):
            paths[int(shown[first])].append(f"M{first} 0h{last - first}v10h{first - last}z")
        return [("".join(path), kinds[index - 1]) for index, path in sorted(paths.items()) if index]


@dataclass(frozen=True)
class Step:
    """A line of timeline.jsonl.

    Attributes:
        number: the training step.
        seconds: how long it took.
        missing: seconds at its beginning that are not wholly known.
        lanes: who did what.
    """

    number: int
    seconds: float
    missing: float
    lanes: tuple[Lane, ...]

    def role(self, role: str) -> list[Lane]:
        """The lanes of a role."""
        return [lane for lane in self.lanes if lane.role == role]

    def shares(self, role: str) -> dict[str, float]:
        """What part of the time of all lanes of a role went into each kind, and in ``idle`` into none."""
        lanes = self.role(role)
        whole = self.seconds * max(len(lanes), 1)
        kinds = dict.fromkeys(kind for lane in lanes for kind in lane.events)
        found = {kind: sum(lane.total(kind) for lane in lanes) / whole for kind in kinds}
        return found | {"idle": max(0.0, 1 - sum(found.values()))}


def read_step(row: Row) -> Step:
    """A line of timeline.jsonl."""
    events: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for lane, kind, start, end, _ in row["events"]:
        events[lane, kind].append((start / 1000, end / 1000))
    lanes: dict[int, dict[str, Array]] = {number: {} for number in range(len(row["lanes"]))}
    for (lane, kind), spans in events.items():
        lanes[lane][row["kinds"][kind]] = np.array(sorted(spans))
    made = [Lane(name, lanes[number]) for number, name in enumerate(row["lanes"])]
    processes = list(dict.fromkeys(lane.process for lane in made))
    made.sort(key=lambda lane: (processes.index(lane.process), lane.role != FIRST, lane.number))  # equals stay as noted
    return Step(row["step"], row["seconds"], row["missing"], tuple(made))


def drawing(step: Step) -> Html:
    """The picture."""
    scale = axis([0, step.seconds], "seconds since the step's start", seconds, ends=(0, step.seconds))
    ticks = [tag("span", plain(t), style=f"left:{number(scale.percent(t))}%") for t in scale.ticks]
    rows = [_lane(lane, step.seconds) for lane in step.lanes[:MOST_LANES]]
    head = tag("div", tag("span"), tag("span", ticks, class_="x"), tag("em"), class_="lane head")
    foot = tag("div", tag("span"), tag("span", scale.label, class_="xlabel"), tag("em", "busy"), class_="lane foot")
    hidden = len(step.lanes) - MOST_LANES
    more = tag("p", f"{hidden} more are not drawn; the shares below count them.", class_="how") if hidden > 0 else None
    return tag("div", rows, head, foot, more, class_="gantt")


def legend(step: Step) -> list[tuple[str, str]]:
    """Colours and names of the kinds in the picture."""
    kinds = dict.fromkeys(kind for lane in step.lanes for kind in lane.events)
    known = [kind for kind in KINDS if kind in kinds]
    others = [kind for kind in kinds if kind not in KINDS]
    named = {(color_of(kind), KINDS.get(kind, "another function")): None for kind in [*known, *others]}
    return [*named, (IDLE, "nothing")]


def color_of(kind: str) -> str:
    """The colour class of a kind."""
    return IDLE if kind == "idle" else COLORS.get(kind, OTHER)


def name_of(kind: str) -> str:
    """What a kind is called."""
    return {"idle": "nothing to do"}.get(kind) or KINDS.get(kind, kind)


def shares_table(step: Step) -> Html:
    """For each role, what share of the step's time its lanes spent on what."""
    rows: list[Child] = []
    for role in dict.fromkeys(lane.role for lane in step.lanes):
        shares = step.shares(role)
        shown = [(kind, share) for kind, share in shares.items() if share >= 0.0005]
        bar = share_bar([(color_of(kind), share, f"{name_of(kind)}: {percent(share, 1)}") for kind, share in shown])
        text = ", ".join(
            f"{name_of(kind)} {percent(share, 1)}" for kind, share in sorted(shown, key=lambda item: -item[1])
        )
        count = len(step.role(role))
        label = f"{role} × {count}" if count > 1 else role
        rows.append(tag("tr", tag("th", label, scope="row"), tag("td", bar, tag("small", text))))
    return tag("table", tag("tbody", rows), class_="shares")


def idle_share(step: Step) -> float | None:
    """The part of the simulator slots' time in which they neither simulate, nor reset, nor have the policy act for them."""
    if not step.role("simulator"):
        return None
    shares = step.shares("simulator")
    return shares["idle"] + sum(shares.get(kind, 0.0) for kind in WAITING)


def _lane(lane: Lane, length: float) -> Html:
    bars: Sequence[Html] = [tag("path", d=path, class_=color_of(kind)) for path, kind in lane.drawn(length)]
    svg = tag("svg", bars, viewBox=f"0 0 {COLUMNS} 10", preserveAspectRatio="none", aria_hidden="true")
    totals = sorted(((lane.total(kind), kind) for kind in lane.events), reverse=True)
    tip = f"{lane.name}: " + ", ".join(f"{name_of(kind)} {seconds(total)}" for total, kind in totals)
    busy = sum(total for total, kind in totals if kind not in WAITING) / length
    return tag("div", tag("span", lane.name), svg, tag("em", percent(busy)), class_="lane", data_tip=tip)


def _coverage(spans: Array, edges: Array) -> Array:
    """Seconds between neighbouring ``edges`` [n + 1] that ``spans`` [m, 2], which do not overlap, cover: [n]."""
    lengths = np.maximum(spans[:, 1] - spans[:, 0], 0)
    before = np.concatenate([[0], np.cumsum(lengths)])
    times = np.maximum.accumulate(spans.ravel())
    covered = np.stack([before[:-1], before[1:]], axis=1).ravel()
    return np.diff(np.interp(edges, times, covered, left=0.0, right=float(before[-1])))
