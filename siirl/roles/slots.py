"""Simulator slots as the rollout sees them: the contract of a pool, and a pool with a memory and a clock."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import EnvObs, StepResult
from siirl.observe.timeline import Notebook, Span
from siirl.roles.queue import Task, task_of


@dataclass(frozen=True)
class Ready:
    """A slot has something new: its first observation (after a reset), or the result of a step, one row each. ``span``: when its
    simulator worked on it, where somebody measured that."""

    slot: int
    result: EnvObs | StepResult
    span: Span | None = None


@dataclass(frozen=True)
class Died:
    """A slot's simulator is gone (and is being replaced); the episode that ran in it is lost."""

    slot: int
    cause: str


class EnvPool(Protocol):
    """Simulator slots that work in the background. Each slot has at most one request under way.

    Attributes:
        envs: of each slot the environment that runs in it, see `siirl.config.environments`.
    """

    num_slots: int
    envs: Sequence[str]

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        """Ask for a new episode."""
        ...

    def step(self, slot: int, actions: np.ndarray) -> None:
        """Ask for a chunk of actions, float32 [N, D], to be executed."""
        ...

    def rest(self) -> None:
        """Nothing will be asked for a while, see `Env.rest`."""
        ...

    def wait(self, block: bool) -> Sequence[Ready | Died]:
        """Every answer at hand; with ``block``, wait until there is at least one. Never blocked when nothing was asked for."""
        ...


class Slots:
    """A pool that remembers what its slots hold and what is under way, and how long slots were busy.

    Args:
        pool: the slots.
        notebook: is told what each slot does, in the lane ``simulator <slot>``: ``reset`` and ``sim`` while its simulator works,
            then ``weights`` while it waits for new ones, ``wait`` while the policy is busy with others, ``policy`` while it acts.

    Attributes:
        held: the task that each slot's simulator holds.
        under_way: slots with a request whose answer was not seen yet: its kind and since when.
        slot_seconds_while_waiting: seconds during which slots ran while episodes waited for one, times the slots.
        busy_slot_seconds_while_waiting: how many of them had a request under way.
    """

    def __init__(self, pool: EnvPool, notebook: Notebook) -> None:
        self._pool, self._notebook = pool, notebook
        self.num_slots, self.envs = pool.num_slots, pool.envs
        self.held: dict[int, Task] = {}
        self.under_way: dict[int, tuple[str, float]] = {}
        self._free_since: dict[int, float] = {}
        self.slot_seconds_while_waiting = 0.0
        self.busy_slot_seconds_while_waiting = 0.0
        self._busy, self._busy_until = 0.0, time.monotonic()
        self._mark = self._busy_until, 0.0

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        """See `EnvPool.reset`."""
        self._clock()
        self.held[slot] = task_of(spec)
        self.under_way[slot] = "reset", self._busy_until
        self._pool.reset(slot, spec)

    def step(self, slot: int, actions: np.ndarray) -> None:
        """See `EnvPool.step`."""
        self._clock()
        self.under_way[slot] = "sim", self._busy_until
        self._pool.step(slot, actions)

    def rest(self) -> None:
        """See `EnvPool.rest`."""
        self._pool.rest()

    def wait(self, block: bool) -> Sequence[Ready | Died]:
        """See `EnvPool.wait`."""
        events = self._pool.wait(block)
        self._clock()
        for event in events:
            kind, asked = self.under_way.pop(event.slot, ("lost", self._busy_until))
            start, end = asked, self._busy_until
            if isinstance(event, Died):
                self.held.pop(event.slot, None)
                kind = "lost"
            elif event.span is not None:
                start, end, _ = event.span
            self._note(event.slot, kind, start, end)
            self._free_since[event.slot] = end
        return events

    def acted(self, slots: Sequence[int], start: float, end: float) -> None:
        """The policy acted on what these slots had answered."""
        for slot in slots:
            self._note(slot, "wait", self._free_since[slot], start)
            self._note(slot, "policy", start, end)

    def got_weights(self, slots: Sequence[int]) -> None:
        """The weights for which these slots waited, if they answered before, are in place."""
        now = time.monotonic()
        for slot in slots:
            if slot not in self.under_way:
                self._note(slot, "weights", self._free_since[slot], now)
                self._free_since[slot] = now

    def _note(self, slot: int, kind: str, start: float, end: float) -> None:
        if end > start:
            self._notebook.note(f"simulator {slot}", kind, start, end)

    @property
    def busy_slot_seconds(self) -> float:
        """Seconds from a request to the sight of its answer, summed over slots."""
        self._clock()
        return self._busy

    def watch(self) -> None:
        """Utilisation counts from now."""
        self._mark = time.monotonic(), self.busy_slot_seconds

    def episodes_waited(self) -> None:
        """Utilisation counts what passed since the last call: an episode waited all that time, and has a slot now."""
        (since, busy_then), busy = self._mark, self.busy_slot_seconds
        self.slot_seconds_while_waiting += (self._busy_until - since) * self.num_slots
        self.busy_slot_seconds_while_waiting += busy - busy_then
        self._mark = self._busy_until, busy

    def _clock(self) -> None:
        now = time.monotonic()
        self._busy += (now - self._busy_until) * len(self.under_way)
        self._busy_until = now
