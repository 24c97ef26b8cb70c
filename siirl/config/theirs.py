"""What a function sees of the settings that were given under RLinf's names, and what it may say."""

from collections.abc import Callable, Mapping
from typing import Any

from siirl.config.schema import Config

SKIP: Any = object()
"""Nothing follows."""
Theirs = Mapping[str, Any]
"""Their names and values, interpolations resolved."""
Function = Callable[[Theirs, Config], Any]
