"""Which role lives on which slot: the grammar of ``cluster.component_placement``, and the slots that it may name.

A slot is one accelerator or, without accelerators, one share of a machine's CPU. Slots are numbered machine by machine.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from siirl.config.keys import given, refuse
from siirl.config.problems import problem
from siirl.config.schema import Config
from siirl.registry import did_you_mean

PLACEMENT = "cluster.component_placement"
ROLES = ("env", "rollout", "embedding", "actor")
WORKER_ROLES = ROLES[1:]
"""Those that a slot's node worker hosts; simulators are processes of their own."""
ALL = "all"
PIECE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
"""``3`` or ``0-3``."""

Placement = dict[str, tuple[int, ...]]
"""Role → slot numbers, ascending."""


def slots_per_machine(config: Config) -> int:
    """Accelerators, or CPU slots where there are none."""
    return config.trainer.n_gpus_per_node or config.cluster.num_cpu_slots_per_node


def slot_count(config: Config) -> int:
    """Slots of the whole cluster that the config declares."""
    return config.trainer.nnodes * slots_per_machine(config)


def parse_slots(text: str, config: Config) -> tuple[int, ...]:
    """The slots that ``all``, ``0``, ``0-3`` or ``0-3,8-11`` means, ascending.

    Raises:
        ValueError: not of this grammar, or no slots of this cluster; two arguments, what is allowed and the fix.
    """
    count, example = slot_count(config), f"write {ALL}, or numbers and ranges such as 0-3,8-11"
    if text.strip() == ALL:
        return tuple(range(count))
    slots: Counter[int] = Counter()
    for piece in map(str.strip, text.split(",") if text.strip() else ()):
        match = PIECE.fullmatch(piece)
        if match is None:
            raise ValueError(f"{ALL}, slot numbers ≥ 0 and ranges of them; {piece!r} is none of these", example)
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"ranges from a lower slot to a higher one; {piece} goes down", f"write {last}-{first}")
        if last >= count:  # before the range is counted out: it may be long
            more = f"name no slot above {count - 1}, or declare more: {_declared(config)}"
            raise ValueError(f"slots 0 to {count - 1}, the {count} that there are; {piece} names slot {last}", more)
        slots.update(range(first, last + 1))
    if not slots:
        raise ValueError("at least one slot", example)
    if twice := sorted(slot for slot, times in slots.items() if times > 1):
        raise ValueError(f"each slot once; {show_slots(twice)} is named again", f"write {show_slots(sorted(slots))}")
    return tuple(sorted(slots))


def show_slots(slots: Sequence[int]) -> str:
    """Ascending slots as `parse_slots` reads them, e.g. ``0-3,8``."""
    runs: list[list[int]] = []
    for slot in slots:
        if runs and slot == runs[-1][-1] + 1:
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _declared(config: Config) -> str:
    """Where the number of slots comes from."""
    nodes, gpus = given(config, "trainer.nnodes"), given(config, "trainer.n_gpus_per_node")
    if config.trainer.n_gpus_per_node:
        return f"{nodes} × {gpus}"
    return f"{nodes} × {given(config, 'cluster.num_cpu_slots_per_node')} ({gpus})"


def split_names(names: str) -> list[str]:
    """The roles of an entry's name, e.g. of ``env,rollout``."""
    return [name.strip() for name in names.split(",")]


def read_placement(config: Config) -> tuple[Placement, list[str]]:
    """Every role that is placed, and what is wrong with the entries, one line each; ``embedding`` lives with the rollout
    unless it is placed itself. Of a role whose slots cannot be read, there are none."""
    entries = config.cluster.component_placement
    if entries is None:
        return dict.fromkeys(ROLES, tuple(range(slot_count(config)))), []
    placed: Placement = {}
    problems = []
    for names, text in entries.items():
        name = f"{PLACEMENT}.{names}"
        slots: tuple[int, ...] = ()
        try:
            slots = parse_slots(text, config)
        except ValueError as error:
            problems.append(problem(name, text, *error.args))
        for role in split_names(names):
            if role not in ROLES:
                fix = did_you_mean(role, list(ROLES)).strip() or "name one of these, or several with commas"
                problems.append(problem(name, text, f"the roles {', '.join(ROLES)}; {role!r} is none of them", fix))
            elif role in placed:
                problems.append(problem(name, text, f"each role once; {role} is placed twice", f"place {role} once"))
            else:
                placed[role] = slots
    if "rollout" in placed:
        placed.setdefault("embedding", placed["rollout"])
    return placed, problems


def check_placement(config: Config) -> Iterator[str]:
    """Entries that cannot be read, or that name slots that are not there."""
    yield from read_placement(config)[1]


def check_roles(config: Config, used: Collection[str]) -> Iterator[str]:
    """Roles that the workflow has (``used``) and no entry places, and the other way round.

    A run that only validates may leave the placement of training as it is.
    """
    entries = config.cluster.component_placement
    if entries is None:
        return
    named = {role: names for names in entries for role in split_names(names) if role in ROLES}
    missing = [role for role in ROLES if role in used and role not in named and role != "embedding"]
    if missing:
        allowed = f"a place for each role of the workflow; {' and '.join(missing)} {'has' if len(missing) == 1 else 'have'} none"
        yield refuse(config, PLACEMENT, allowed, " ".join(f"{PLACEMENT}.{role}=<slots>" for role in missing))
    for role, names in named.items():
        if role not in used and not config.trainer.val_only:
            allowed = f"roles that the workflow has; it has no node of role {role}, and would ignore its place"
            yield problem(f"{PLACEMENT}.{names}", entries[names], allowed, f"leave {role} out")


def place(config: Config, roles: Collection[str]) -> Placement:
    """Where each of ``roles`` lives, in the order of `ROLES`.

    Raises:
        ValueError: the placement cannot be read.
    """
    placed, problems = read_placement(config)
    if problems:
        raise ValueError("\n  ".join(["the roles cannot be placed:", *problems]))
    return {role: placed[role] for role in ROLES if role in roles and role in placed}


def spread(count: int, slots: Sequence[int]) -> list[int]:
    """The slot of each of ``count`` things: all of them in one row, spread evenly over ``slots`` in order."""
    return [slots[i * len(slots) // count] for i in range(count)]


def with_entry(entries: dict[str, object], role: str, slots: object) -> dict[str, object]:
    """``entries`` with one role moved to other ``slots``; those that it shared an entry with stay where they are."""
    others = {",".join(name for name in split_names(str(names)) if name != role): at for names, at in entries.items()}
    others.pop("", None)
    return others | {role: slots}
