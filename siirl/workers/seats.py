"""Which node workers a plan has: one per slot that hosts a role, and its number among those that share weights."""

from dataclasses import dataclass

from siirl.config.placement import WORKER_ROLES
from siirl.dag.compile import Plan, Process, Slot


@dataclass(frozen=True)
class Seat:
    """A node worker.

    Attributes:
        slot: where it lives.
        roles: what it hosts.
        envs: the simulator processes that it drives, each with the slot where it lives; empty without ``rollout``.
        rank: its number among the ``world`` workers with weights, the actor's ranks first; None where weights stay as they are
            loaded.
        actors: how many of these train.
        share: the part of its machine's CPU cores that is this slot's.
    """

    slot: Slot
    roles: frozenset[str]
    envs: tuple[tuple[Slot, Process], ...]
    rank: int | None
    world: int
    actors: int
    share: float


def seats(plan: Plan) -> list[Seat]:
    """The plan's node workers: the actor's ranks first, then those that only roll out, then those that only embed."""
    placement = {role: plan.placement.get(role, ()) for role in WORKER_ROLES}
    order = list(dict.fromkeys([*placement["actor"], *placement["rollout"], *placement["embedding"]]))
    members = {slot for role in ("actor", "rollout") for slot in placement[role]} if placement["actor"] else set()
    rows = dict(zip(placement["rollout"], plan.env_slots, strict=True))
    used = [plan.slots[index] for index in order]
    return [
        Seat(
            slot=slot,
            roles=frozenset(role for role in WORKER_ROLES if slot.index in placement[role]),
            envs=tuple(
                (plan.slots[at], process) for at, process in zip(rows.get(slot.index, ()), plan.processes, strict=False)
            ),
            rank=number if slot.index in members else None,
            world=len(members),
            actors=len(placement["actor"]),
            share=1 / sum(other.machine == slot.machine for other in used),
        )
        for number, slot in enumerate(used)
    ]
