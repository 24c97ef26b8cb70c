"""The workflow drawn from ``plan.json``: nodes from left to right, on a narrow screen from top to bottom."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from siirl.config.placement import show_slots
from siirl.observe.report.markup import Html, join, number, tag
from siirl.observe.report.run import Row

PER = {"episode": "per episode", "group": "per complete group", "batch": "per batch of the step"}
WIDTH, HEIGHT = 168, 76
GAP, BESIDE = 34, 18
MOST_IN_A_ROW = 6
"""Of more nodes in a row the drawing would become too small to read on a usual screen."""


@dataclass(frozen=True)
class Place:
    """Where a node is drawn: how many nodes come before it along the longest path, and its place among its equals."""

    depth: int
    row: int


def flow(plan: Row) -> Html:
    """Both drawings; the style sheet shows one."""
    places = layout(plan["nodes"])
    depth = 1 + max(place.depth for place in places.values())
    tall = tag("div", _drawing(plan, places, down=True), class_="flow tall")
    if depth > MOST_IN_A_ROW:
        return tag("div", _drawing(plan, places, down=True), class_="flow only")
    return join(tag("div", _drawing(plan, places, down=False), class_="flow wide"), tall)


def layout(nodes: list[Row]) -> dict[str, Place]:
    """Each node behind all its inputs."""
    depth: dict[str, int] = {}
    count: dict[int, int] = defaultdict(int)
    places = {}
    for node in nodes:  # a plan's nodes are in an order that respects every edge
        depth[node["name"]] = 1 + max((depth[name] for name in node["inputs"]), default=-1)
        level = depth[node["name"]]
        places[node["name"]] = Place(level, count[level])
        count[level] += 1
    return places


def slots_table(plan: Row) -> Html:
    """What lives on each slot; slots that hold the same share a line."""
    alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for slot in plan["slots"]:
        alike[slot["device"].partition(":")[0], *slot["holds"]].append(slot)
    rows = []
    for (device, *holds), members in alike.items():
        machines = sorted({slot["machine"] for slot in members})
        where = f"machine{'s' * (len(machines) > 1)} {show_slots(machines)}"
        cells = [where, device, "; ".join(holds) or "unused"]
        name = tag("th", slots([slot["index"] for slot in members]), scope="row")
        rows.append(tag("tr", name, [tag("td", text) for text in cells]))
    return tag("div", tag("table", tag("tbody", rows)), class_="scroll")


def _drawing(plan: Row, places: Mapping[str, Place], down: bool) -> Html:
    deep = 1 + max(place.depth for place in places.values())
    rows = 1 + max(place.row for place in places.values())
    width = deep * WIDTH + (deep - 1) * GAP
    height = rows * HEIGHT + (rows - 1) * BESIDE
    if down:
        width, height = rows * WIDTH * 2 + (rows - 1) * BESIDE, deep * HEIGHT + (deep - 1) * GAP

    def corner(name: str) -> tuple[float, float]:
        place = places[name]
        if down:
            return place.row * (WIDTH * 2 + BESIDE), place.depth * (HEIGHT + GAP)
        return place.depth * (WIDTH + GAP), place.row * (HEIGHT + BESIDE)

    wide = WIDTH * 2 if down else WIDTH
    edges = [
        _edge(corner(source), corner(node["name"]), wide, down) for node in plan["nodes"] for source in node["inputs"]
    ]
    boxes = [_box(node, plan["roles"], *corner(node["name"]), wide) for node in plan["nodes"]]
    title = tag("title", "The workflow: " + ", then ".join(node["name"] for node in plan["nodes"]))
    return tag("svg", title, edges, boxes, viewBox=f"-2 -2 {width + 4} {height + 4}", role="img", width=width + 4)


def _box(node: Row, roles: Mapping[str, list[int]], x: float, y: float, width: float) -> Html:
    where = roles.get(node["role"], [])
    place = f"{node['role']}, {slots(where)}" if where else node["role"]
    lines = [(22, "name", node["name"]), (42, "role", place), (60, "per", PER.get(node["per"], node["per"]))]
    texts = [
        tag("text", _short(text, width), x=number(x + 14), y=number(y + dy), class_=kind) for dy, kind, text in lines
    ]
    shape = tag("rect", x=number(x), y=number(y), width=number(width), height=HEIGHT, rx=10, class_=f"r-{node['role']}")
    tip = f"{node['name']}: {node['op']}, {place}"
    return tag("g", shape, texts, class_="node", data_tip=tip)


def slots(numbers: list[int]) -> str:
    """E.g. ``slot 0``, ``slots 0-3``."""
    return f"slot{'s' * (len(numbers) > 1)} {show_slots(numbers)}"


def _short(text: str, width: float) -> str:
    most = int((width - 20) / 6.6)
    return text if len(text) <= most else text[: most - 1] + "…"


def _edge(source: tuple[float, float], target: tuple[float, float], width: float, down: bool) -> Html:
    if down:
        (x1, y1), (x2, y2) = (source[0] + width / 2, source[1] + HEIGHT), (target[0] + width / 2, target[1])
        middle = (y1 + y2) / 2
        corners = [(x1, middle), (x2, middle), (x2, y2 - 7)]
        head = f"M{number(x2 - 5)} {number(y2 - 8)}l5 7 5-7z"
    else:
        (x1, y1), (x2, y2) = (source[0] + width, source[1] + HEIGHT / 2), (target[0], target[1] + HEIGHT / 2)
        middle = (x1 + x2) / 2
        corners = [(middle, y1), (middle, y2), (x2 - 7, y2)]
        head = f"M{number(x2 - 8)} {number(y2 - 5)}l7 5-7 5z"
    curve = " ".join(f"{number(x)} {number(y)}" for x, y in corners)
    line = tag("path", d=f"M{number(x1)} {number(y1)}C{curve}", class_="edge")
    return tag("g", line, tag("path", d=head, class_="head"))
