"""Results in Ray's object store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from siirl.workers.base import WorkerLostError

GONE = (
    "a worker of the run, or its machine, is gone. Start the same command again: with trainer.resume_mode=auto it goes on from "
    "the newest checkpoint. What was seen of it"
)
LOST = (RayActorError, ObjectLostError)
"""What Ray raises when a process, or what it held, is gone."""

OTHERS_SECONDS = 10.0
"""How long after a failure to wait whether another worker turns out to be gone: its peers often notice first."""


def get(reference: ray.ObjectRef) -> Any:
    """Wait for a result; raises what the worker raised, caused by Ray's error, which shows the worker's traceback.

    Ray's own error is of the same class too, but empty: an OSError without its errno.

    Raises:
        WorkerLostError: the process that computes it, or one that this needed, is gone.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, LOST):
            raise WorkerLostError(f"{GONE}: {error.cause}") from error
        raise error.cause from error
    except LOST as error:
        raise WorkerLostError(f"{GONE}: {error}") from error


def get_all(references: Sequence[ray.ObjectRef]) -> list[Any]:
    """Wait for all results, in order. The first failure is raised at once: those who wait for the one that failed never end.

    Unless another worker is gone: then that is why the first one failed.
    """
    waiting = list(references)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        try:
            ray.get(done[0])
        except (RayTaskError, *LOST):
            _raise_lost(waiting)
            get(done[0])
    return [get(reference) for reference in references]


def _raise_lost(references: Sequence[ray.ObjectRef]) -> None:
    """Raise WorkerLostError if that is how one of ``references`` ends soon."""
    waiting = list(references)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1, timeout=OTHERS_SECONDS)
        if not done:
            return
        try:
            ray.get(done[0])
        except RayTaskError:
            continue  # the failure that came first is raised
        except LOST:
            get(done[0])


@dataclass(frozen=True)
class RayFuture:
    """A result that one worker, or several together, may still be computing; the first one's counts."""

    references: tuple[ray.ObjectRef, ...]

    def result(self) -> Any:
        """See `Future.result`."""
        return get_all(self.references)[0]

    def done(self) -> bool:
        """See `Future.done`."""
        ready, _ = ray.wait(list(self.references), num_returns=len(self.references), timeout=0)
        return len(ready) == len(self.references)
