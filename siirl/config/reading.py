"""A config while it is read: what was understood so far, and what is wrong or without effect."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from siirl.config.keys import KEYS, convert, set_value
from siirl.config.problems import ConfigError, mentions
from siirl.config.schema import Config

DEFAULTS, FILES, COMMAND_LINE = range(3)
"""Where a value comes from; a later source wins."""


class Setting(NamedTuple):
    """A value under the name that it was given by."""

    name: str
    value: Any
    source: int


@dataclass
class Reading:
    """A config as far as it could be read.

    Attributes:
        config: what was given; where a value was unusable, the default stands in.
        problems: what is wrong with it, one line each.
        bad_keys: the keys where a default stands in.
        without_effect: reason → names that were accepted and mean nothing here.
    """

    config: Config
    problems: list[str] = field(default_factory=list)
    bad_keys: set[str] = field(default_factory=set)
    without_effect: dict[str, list[str]] = field(default_factory=dict)

    def check(self, checker: Callable[[Config], list[str]]) -> None:
        """Add the checker's problems, except those that speak of a stand-in value."""
        self.problems += [line for line in checker(self.config) if not mentions(line, self.bad_keys)]

    def refuse(self, key: str, *problems: str) -> None:
        """Report why a key has no usable value."""
        self.bad_keys.add(key)
        self.problems += problems

    def put(self, key: str, value: Any, name: str) -> None:
        """Set a key to a value that was given under ``name``, or report why it cannot have that value."""
        try:
            set_value(self.config, key, convert(replace(KEYS[key], name=name), value))
        except ConfigError as error:
            self.refuse(key, *error.problems)

    def ignore(self, name: str, why: str) -> None:
        """Note a name that was given and means nothing here."""
        names = self.without_effect.setdefault(why, [])
        if name not in names:
            names.append(name)

    def ignored(self) -> str:
        """What means nothing here, one reason a line; empty when everything counts."""
        lines = [f"  {', '.join(sorted(names))}: {why}" for why, names in self.without_effect.items()]
        return "\n".join(["accepted from RLinf's config, and without effect here:", *lines]) if lines else ""
