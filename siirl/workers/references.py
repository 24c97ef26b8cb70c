"""Results in Ray's object store."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError


def get(reference: ray.ObjectRef) -> Any:
    """Wait for a result; raises what the worker raised, caused by Ray's error, which shows the worker's traceback.

    Ray's own error is of the same class too, but empty: an OSError without its errno.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error


@dataclass(frozen=True)
class RayFuture:
    """A result that a worker may still be computing."""

    reference: ray.ObjectRef

    def result(self) -> Any:
        """See `Future.result`."""
        return get(self.reference)

    def done(self) -> bool:
        """See `Future.done`."""
        ready, _ = ray.wait([self.reference], timeout=0)
        return bool(ready)
