"""What the loop sees of the workers, whether they are Ray actors or objects in this process."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from siirl.data.trajectory import Episode, EpisodeSpec
from siirl.policies.base import Sampling


class Future(Protocol):
    """A result that may still be computed."""

    def result(self) -> Any:
        """Wait for it; raises what the worker raised."""
        ...

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        ...


class Workers(Protocol):
    """The node workers of a run."""

    def rollout(self, specs: Sequence[EpisodeSpec], sampling: Sampling, *, keep: bool) -> Iterator[Episode]:
        """Run episodes; each is yielded as it ends, its trajectory left where it was made (None unless ``keep``)."""
        ...

    def submit(self, operation: str, *args: Any) -> Future:
        """Start an operation of `NodeWorker` on the node worker, in the background where there is one."""
        ...

    def close(self) -> None:
        """Stop every worker and simulator."""
        ...
