"""Results in Ray's object store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from siirl.workers.base import WorkerLostError


def get(reference: ray.ObjectRef) -> Any:
    """Wait for a result; raises what the worker raised, caused by Ray's error, which shows the worker's traceback.

    Ray's own error is of the same class too, but empty: an OSError without its errno.

    Raises:
        WorkerLostError: the process that computes it is gone.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayActorError as error:
        raise WorkerLostError(
            "a worker of the run, or its machine, is gone. Start the same command again: with trainer.resume_mode=auto it goes "
            f"on from the newest checkpoint. Ray says: {error}"
        ) from error


def get_all(references: Sequence[ray.ObjectRef]) -> list[Any]:
    """Wait for all results, in order. The first failure is raised at once: those who wait for the one that failed never end."""
    waiting = list(references)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        get(done[0])
    return [get(reference) for reference in references]


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
