"""How a wrong config is reported: one line per problem, all of them at once."""

import re
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A config that cannot run.

    Attributes:
        problems: one line each: the full key, the value given, what is allowed, and the fix.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        title = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  - ".join([f"the config has {title}:", *problems]))


def show(value: Any) -> str:
    """A value as it is written on the command line, e.g. ``null``, ``true``, ``[0,2]``, ``{env: 0-3}``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(show, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_show_name(name)}: {_show_entry(item)}" for name, item in value.items()) + "}"
    return str(value)


def _show_name(name: Any) -> str:
    return show(name).replace(",", "\\,")


def _show_entry(item: Any) -> str:
    return f"'{item}'" if isinstance(item, str) and "," in item else show(item)


def problem(key: str, value: Any, allowed: str, fix: str) -> str:
    """One line that says what was given for ``key``, what is allowed, and how to repair it."""
    return f"{key}={show(value)}: allowed: {allowed}. Fix: {fix}{'' if fix.endswith('?') else '.'}"


def mentions(line: str, keys: Iterable[str]) -> bool:
    """Whether a problem names one of these dotted keys (whole keys only: ``rollout.n`` is not in ``rollout.name``)."""
    return any(re.search(rf"(?<![\w.]){re.escape(key)}(?!\w|\.\w)", line) for key in keys)
