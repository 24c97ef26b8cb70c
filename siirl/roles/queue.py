"""Waiting episodes, and which of them a free simulator slot gets.

Two costs decide. A simulator that switches tasks builds a new scene, which takes seconds; and a long episode that starts last
keeps one slot busy while all others have nothing left to do.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from siirl.config.environments import TRAINING
from siirl.data.trajectory import EpisodeSpec

Task = tuple[str, int]
"""Suite and task_id: what a simulator holds."""

Place = tuple[str, Task | None]
"""An environment, and what its simulator holds."""

ExpectedSteps = Mapping[Task, float]
"""Environment steps that a task's episodes are expected to take."""


class EpisodeSource(Protocol):
    """Where rollout roles get their episodes; several of them may share one, from several machines."""

    def take(self, slot: str, held: Task | None, env: str = TRAINING) -> EpisodeSpec | None:
        """The next episode for ``slot`` (a name unique in the cluster), whose simulator holds the task ``held``, if any.

        None when nothing waits for the environment ``env``, whose simulator that is.
        """
        ...

    def put_back(self, spec: EpisodeSpec) -> None:
        """Return an episode whose simulator died, to be run next."""
        ...


@dataclass
class Waiting:
    """The waiting episodes of one task: a heap of (−expected steps, place in the given order, episode), and their sum."""

    heap: list[tuple[float, int, EpisodeSpec]] = field(default_factory=list)
    work: float = 0.0


class EpisodeQueue:
    """An `EpisodeSource` in memory, for one thread at a time.

    A slot goes on with the task that it holds. When nothing of that waits, it goes where most help is missing: to the task with
    the most expected steps waiting per slot that holds it already (a task that no slot holds comes before all others). Within a
    task the longest expected episode comes first (Graham 1969, "Bounds on Multiprocessing Timing Anomalies": among equal slots
    that ends at most a third later than the best order); equals keep their order, so that groups stay together.

    A take costs O(log n) of n waiting episodes, and a switch O(tasks) more.

    Args:
        specs: the episodes.
        expected_steps: how long episodes are expected to take; ``max_steps`` of those that it does not know.
    """

    def __init__(self, specs: Iterable[EpisodeSpec], expected_steps: ExpectedSteps | None = None) -> None:
        self._tasks: dict[Place, Waiting] = {}
        self._first: deque[EpisodeSpec] = deque()
        self._holds: dict[str, Place] = {}
        self._holders: Counter[Place] = Counter()
        known = expected_steps or {}
        for order, spec in enumerate(specs):
            steps = known.get(task_of(spec), spec.max_steps)
            waiting = self._tasks.setdefault((spec.env, task_of(spec)), Waiting())
            waiting.heap.append((-steps, order, spec))
            waiting.work += steps
        for waiting in self._tasks.values():
            heapq.heapify(waiting.heap)

    def __len__(self) -> int:
        """Episodes that wait."""
        return len(self._first) + sum(len(waiting.heap) for waiting in self._tasks.values())

    def take(self, slot: str, held: Task | None, env: str = TRAINING) -> EpisodeSpec | None:
        """See `EpisodeSource.take`."""
        self._note(slot, (env, held))
        spec = next((spec for spec in self._first if spec.env == env), None)
        if spec is not None:
            self._first.remove(spec)
        elif place := (env, held) if (env, held) in self._tasks else self._neediest(env):
            spec = self._pop(place)
        else:
            return None
        self._note(slot, (env, task_of(spec)))
        return spec

    def put_back(self, spec: EpisodeSpec) -> None:
        """See `EpisodeSource.put_back`."""
        self._first.appendleft(spec)

    def clear(self) -> int:
        """Forget what waits, because nobody needs it any more; returns the number of episodes that were never run."""
        count = len(self)
        self._first.clear()
        self._tasks.clear()
        return count

    def _note(self, slot: str, place: Place) -> None:
        """Keep count of the slots that hold each task."""
        if slot in self._holds:
            self._holders[self._holds[slot]] -= 1
        self._holds[slot] = place
        self._holders[place] += 1

    def _neediest(self, env: str) -> Place | None:
        """The environment's task with the most expected steps per slot that holds it; ties go to the one that was given first."""

        def need(place: Place) -> tuple[float, float]:
            work, holders = self._tasks[place].work, self._holders[place]
            return (work / holders if holders else float("inf")), work

        return max((place for place in self._tasks if place[0] == env), key=need, default=None)

    def _pop(self, place: Place) -> EpisodeSpec:
        """The longest expected episode of a task; a task without episodes is forgotten."""
        waiting = self._tasks[place]
        negative, _, spec = heapq.heappop(waiting.heap)
        waiting.work += negative
        if not waiting.heap:
            del self._tasks[place]
        return spec


def task_of(spec: EpisodeSpec) -> Task:
    """What a simulator must hold to run the episode."""
    return spec.suite, spec.task_id
