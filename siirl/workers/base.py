"""What the loop sees of the workers, whether they are Ray actors or objects in this process."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from siirl.data.trajectory import Episode, EpisodeSpec
from siirl.observe.timeline import Clock, Recording
from siirl.observe.video.choice import Reel
from siirl.roles.queue import ExpectedSteps

if TYPE_CHECKING:  # a simulator's process imports this module, and has no use for PyTorch
    from siirl.policies.base import Sampling


class Future(Protocol):
    """A result that may still be computed."""

    def result(self) -> Any:
        """Wait for it; raises what the worker raised."""
        ...

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        ...


class WorkerLostError(RuntimeError):
    """A process of the run, or its machine, is gone."""


class Workers(Protocol):
    """The node workers of a run.

    Attributes:
        in_background: whether a rollout goes on while the caller does something else.
    """

    in_background: bool

    def rollout(
        self,
        specs: Sequence[EpisodeSpec],
        sampling: "Sampling",
        *,
        keep: bool,
        after: int,
        expected_steps: ExpectedSteps,
        reel: Reel | None = None,
    ) -> Iterator[Episode]:
        """Run episodes; each is yielded as it ends, its trajectory left where it was made (None unless ``keep``).

        Simulators are reset at once; the policy acts when `sync` was called with a step ≥ ``after``. Those that may be chosen for
        ``reel`` get videos.
        """
        ...

    def videos(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> Sequence[Future]:
        """The MP4 files of episodes of a rollout with that ``reel``: of each worker (`EpisodeSpec`, bytes) of what ran there."""
        ...

    def cancel(self) -> None:
        """End the rollout under way: what runs is yielded with the drop reason ``cancelled``, what waits is not run."""
        ...

    def submit(self, operation: str, *args: Any) -> Future:
        """Start an operation of `NodeWorker` in the background where there is one: on every rank of the actor, whose first
        one's result counts, or (``embed``, ``call``) on one of the workers that embed."""
        ...

    def sync(self, step: int) -> dict[str, float]:
        """Give the weights of training step ``step`` to all that act, and let rollouts that wait for them go on.

        Returns:
            ``weight_sync/bytes``, sent to other processes.
        """
        ...

    def recordings(self, since: float, clock: Clock) -> list[Recording]:
        """What node workers (the first `MOST_WORKERS`) and their simulators did from time ``since`` of ``clock`` on."""
        ...

    def close(self) -> None:
        """Stop every worker and simulator."""
        ...
