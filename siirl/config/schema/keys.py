"""What a config key is: a dataclass field whose metadata holds its meaning, unit and limits."""

from dataclasses import field
from typing import Any


def key(
    default: Any,
    doc: str,
    *,
    choices: tuple[Any, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
) -> Any:
    """A config key: its default, what it means, and the values allowed (``above`` is an exclusive minimum)."""
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "maximum": maximum, "above": above}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type, doc: str) -> Any:
    """A nested group of keys."""
    return field(default_factory=kind, metadata={"doc": doc})
