"""Make-believe workers: what they were asked, and answers that a test makes up."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from siirl.config.schema import Config
from siirl.data.trajectory import CANCELLED, Episode, EpisodeSpec, EpisodeSummary, Stored
from siirl.observe.video.choice import Reel
from siirl.policies.base import Sampling
from siirl.roles.queue import ExpectedSteps


class FakeFuture:
    """Its result is ready only when it is waited for, or at once if ``quick``."""

    def __init__(self, value: Any, on_wait: Callable[[], None], quick: bool = False) -> None:
        self._value, self._on_wait, self._quick = value, on_wait, quick

    def done(self) -> bool:
        return self._quick

    def result(self) -> Any:
        self._on_wait()
        return self._value


class FakeWorkers:
    """Episodes end in the order of ``index`` first, so that the groups end late and interleaved; events are noted.

    Args:
        successes: trial → which of its episodes succeed.
        dropped: (trial, index) of episodes with a drop reason.
        nan: (trial, index) of episodes whose embedding is NaN.
        quick: embeddings are ready at once.
        old: trials whose episodes acted with weights of three steps before.
    """

    def __init__(
        self,
        successes: dict[int, Sequence[bool]] | None = None,
        dropped: set[tuple[int, int]] | None = None,
        nan: set[tuple[int, int]] | None = None,
        quick: bool = False,
        old: Collection[int] = (),
    ) -> None:
        self.old = old
        self.cancelled = 0
        self.after: list[int] = []
        self.expected: list[dict[tuple[str, int], float]] = []
        self.successes = successes or {}
        self.dropped = dropped or set()
        self.nan = nan or set()
        self.quick = quick
        self.events: list[str] = []
        self.filmed: list[tuple[str, int, list[EpisodeSpec]]] = []
        self.updates: list[tuple[list[object], list[int], np.ndarray]] = []

    in_background = False

    def rollout(
        self,
        specs: Sequence[EpisodeSpec],
        sampling: Sampling,
        *,
        keep: bool,
        after: int,
        expected_steps: ExpectedSteps,
        reel: Reel | None = None,
    ) -> Iterator[Episode]:
        self.after.append(after)
        self.expected.append(dict(expected_steps))
        cancelled = self.cancelled
        halves = specs[: len(specs) // 2], specs[len(specs) // 2 :]
        for spec in (spec for half in halves for spec in sorted(half, key=lambda s: (-s.index, s.group_id))):
            self.events.append(f"episode {spec.group_id}.{spec.index}")
            if self.cancelled > cancelled:  # one episode still runs, the others wait
                yield Episode(EpisodeSummary(spec, False, 8, 1, False, 0, CANCELLED), None)
                return
            success = self.successes.get(spec.trial_id, (True, False))[spec.index % 2]
            reason = "nan_observation" if (spec.trial_id, spec.index) in self.dropped else None
            summary = EpisodeSummary(spec, success and not reason, 24, 3, not success, 0, reason)
            if spec.trial_id in self.old:
                summary = replace(summary, weights_step=-2)
            yield Episode(summary, f"{spec.trial_id}.{spec.index}" if keep else None)

    def submit(self, operation: str, *args: Any) -> FakeFuture:
        if operation == "update":
            self.updates.append(args)
            return FakeFuture({"actor/loss": 0.5}, lambda: None)
        if operation == "call":
            function, episodes = args
            assert all(e.trajectory is None for e in episodes)
            seen = [
                replace(e, columns={name: self._seen(value) for name, value in e.columns.items()}) for e in episodes
            ]
            return FakeFuture(function(seen, Config()), lambda: None, self.quick)
        assert operation == "embed"
        (names,) = args
        self.events.append(f"submit {names[0]}")
        values = [None if tuple(map(int, name.split("."))) in self.nan else Stored(name) for name in names]
        return FakeFuture(values, lambda: self.events.append(f"wait {names[0]}"), self.quick)

    def _seen(self, value: Any) -> Any:
        """What a function on a worker sees of a column; the embedding of episode 3.1 is [3.1]."""
        return np.array([float(value.handle)], np.float32) if isinstance(value, Stored) else value

    def videos(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> list[FakeFuture]:
        self.filmed.append((reel.split, reel.step, list(specs)))
        return []

    def cancel(self) -> None:
        self.cancelled += 1

    def sync(self, step: int) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Nothing runs."""
