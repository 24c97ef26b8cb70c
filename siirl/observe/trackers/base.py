"""The contract of a tracker."""

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Receives the metrics of each step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step; a step may be logged in several calls."""
        ...

    def close(self) -> None:
        """Write out what is buffered."""
        ...
