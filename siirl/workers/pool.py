"""Bookkeeping that every simulator pool shares: which slot belongs to which env, and what it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from siirl.dag.compile import Process
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import EnvObs, StepResult
from siirl.observe.timeline import Span
from siirl.roles.slots import Ready


@dataclass
class Requests:
    """What the slots of one env were asked for and the env has not been told yet."""

    resets: list[tuple[int, EpisodeSpec]] = field(default_factory=list)
    steps: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def take(self, steps: bool = True) -> tuple[str, list[int], object] | None:
        """The next call for the env: (method, slots, argument); resets go first, so that no slot waits long. ``steps``: whether
        steps may go."""
        if self.resets:
            slots, specs = [s for s, _ in self.resets], [e for _, e in self.resets]
            self.resets = []
            return "reset", slots, specs
        if self.steps and steps:
            slots, actions = [s for s, _ in self.steps], np.stack([a for _, a in self.steps])
            self.steps = []
            return "step", slots, actions
        return None


class SlotMap:
    """Numbers the slots of several envs in one row: those of the first env, then those of the second, and so on.

    Args:
        processes: what each env holds.
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self.places = [(env, local) for env, process in enumerate(processes) for local in range(process.slots)]
        self.num_slots = len(self.places)
        self.envs: Sequence[str] = [process.env for process in processes for _ in range(process.slots)]
        self.requests = [Requests() for _ in processes]
        self._processes = processes

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        """See `EnvPool.reset`."""
        env, local = self.places[slot]
        self.requests[env].resets.append((local, spec))

    def step(self, slot: int, actions: np.ndarray) -> None:
        """See `EnvPool.step`."""
        env, local = self.places[slot]
        self.requests[env].steps.append((local, actions))

    def next_call(self, env: int, block: bool) -> tuple[str, list[int], object] | None:
        """What the env does next, as `Requests.take`.

        Steps of slots that step together go once every slot of the env has asked for one, or with ``block``: whoever drives the
        slots then has nothing left to do, so every slot whose episode runs has asked.
        """
        requests, process = self.requests[env], self._processes[env]
        complete = block or not process.lock_step or len(requests.steps) == process.slots
        return requests.take(steps=complete)

    def slots_of(self, env: int) -> list[int]:
        """The slots that an env holds, ascending."""
        return [slot for slot, (owner, _) in enumerate(self.places) if owner == env]

    def split(
        self, env: int, slots: Sequence[int], result: EnvObs | StepResult, span: Span | None = None
    ) -> list[Ready]:
        """One answer per slot from a batched result that was computed in ``span``; ``slots`` as the env counts them."""
        own = self.slots_of(env)
        return [Ready(own[slot], result.row(i), span) for i, slot in enumerate(slots)]
