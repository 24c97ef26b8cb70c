"""The config tree as a flat table of dotted keys: their types, limits and defaults, and the conversion of values."""

import dataclasses
import math
import types
from dataclasses import dataclass
from functools import reduce
from typing import Any, get_args, get_origin

from siirl.config.problems import ConfigError, problem, show
from siirl.config.schema import Config
from siirl.registry import did_you_mean

NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
MAPPING = "a mapping of names to texts, whole numbers or lists of them"
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class Key:
    """One config key.

    Attributes:
        name: full dotted name, e.g. ``data.train_batch_size``.
        kind: its type, e.g. ``int``, ``list[str]``, ``float | None``.
        default: the value it has when nothing is given.
        doc: meaning and unit.
        choices, minimum, maximum, above: what is allowed (``above`` is an exclusive minimum); for a list, of each item.
    """

    name: str
    kind: Any
    default: Any
    doc: str
    choices: tuple[Any, ...] | None
    minimum: float | None
    maximum: float | None
    above: float | None

    @property
    def optional(self) -> bool:
        """Whether ``null`` is allowed."""
        return get_origin(self.kind) is types.UnionType

    @property
    def base(self) -> Any:
        """The type without ``None``."""
        return get_args(self.kind)[0] if self.optional else self.kind

    @property
    def is_list(self) -> bool:
        """Whether it holds a list."""
        return get_origin(self.base) is list

    @property
    def is_mapping(self) -> bool:
        """Whether it holds a mapping of names to texts, whose entries can also be set one by one, as ``<key>.<name>``."""
        return get_origin(self.base) is dict

    @property
    def item(self) -> Any:
        """The type of a list's items or of a mapping's values; of anything else, `base`."""
        return get_args(self.base)[-1] if self.is_list or self.is_mapping else self.base

    @property
    def limits(self) -> str:
        """What is allowed beside the type, e.g. ``≥ 0 and ≤ 1``; empty when the type says it all."""
        if self.choices is not None:
            return "one of " + ", ".join(map(show, self.choices))
        bounds = ((">", self.above), ("≥", self.minimum), ("≤", self.maximum))
        return " and ".join(f"{sign} {show(bound)}" for sign, bound in bounds if bound is not None)

    @property
    def allowed(self) -> str:
        """Type and limits in words, e.g. ``a whole number ≥ 1, or null``."""
        if self.choices is not None:
            words = f"a list, each {self.limits}" if self.is_list else self.limits
        else:
            noun = f"a list of {PLURALS[self.item]}" if self.is_list else NOUNS[self.item]
            words = MAPPING if self.is_mapping else f"{noun} {self.limits}".strip()
        return words + (", or null" if self.optional else "")


def sections(kind: type = Config, prefix: str = "") -> dict[str, Any]:
    """Every section of the tree: its dotted name (the root's is empty) and its dataclass."""
    found = {prefix: kind}
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(f.type):
            found |= sections(f.type, f"{prefix}.{f.name}".lstrip("."))  # type: ignore[arg-type]
    return found


def keys_of(kind: type, prefix: str) -> list[Key]:
    """The keys directly in one section."""
    found = []
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(f.type):
            continue
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        found.append(Key(f"{prefix}.{f.name}".lstrip("."), f.type, default, **f.metadata))
    return found


SECTIONS: dict[str, Any] = sections()
KEYS: dict[str, Key] = {key.name: key for name, kind in SECTIONS.items() for key in keys_of(kind, name)}


def get_value(config: Config, name: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, name.split("."), config)


def set_value(config: Config, name: str, value: Any) -> None:
    """Set a dotted key."""
    parent, _, leaf = name.rpartition(".")
    setattr(get_value(config, parent) if parent else config, leaf, value)


def refuse(config: Config, key: str, allowed: str, fix: str) -> str:
    """The problem of the value that ``key`` has."""
    return problem(key, get_value(config, key), allowed, fix)


def given(config: Config, key: str) -> str:
    """``key=value`` for use in a sentence."""
    return f"{key}={show(get_value(config, key))}"


def convert(key: Key, value: Any) -> Any:
    """``value`` (from YAML or the command line) as the type of ``key``.

    Whole numbers serve as numbers and as text, text such as ``"1e-5"`` serves as a number, and a lone text as a list of one.
    In a mapping, a list stands for its items with commas between them.

    Raises:
        ConfigError: wrong type, or outside the key's limits.
    """
    if value is None and key.optional:
        return None
    try:
        if key.is_mapping:
            return _mapping(key, value)
        if not key.is_list:
            return _scalar(key, value)
        if isinstance(value, str) and key.item is str:
            value = [value]
        if isinstance(value, list):
            return [_scalar(key, item) for item in value]
    except TypeError:
        pass  # reported below, as is anything but a list where a list belongs
    raise ConfigError([problem(key.name, value, key.allowed, _fix(key, value))])


def _mapping(key: Key, value: Any) -> dict[str, str]:
    """Names and texts; TypeError when ``value`` holds anything else."""
    if not isinstance(value, dict):
        raise TypeError
    lists = {str(name): entry if isinstance(entry, list) else [entry] for name, entry in value.items()}
    return {name: ",".join(_scalar(key, item) for item in items) for name, items in lists.items()}


def _scalar(key: Key, given: Any) -> Any:
    """One value (or item of a list or mapping) as ``key.item``; TypeError when it is not one or lies outside the limits."""
    value = given
    is_int = isinstance(given, int) and not isinstance(given, bool)
    if key.item is float and (is_int or isinstance(given, str)):
        try:
            value = float(given)
        except (ValueError, OverflowError):
            raise TypeError from None
    elif key.item is str and is_int:
        value = str(given)
    if type(value) is not key.item or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError
    outside = (
        (key.choices is not None and value not in key.choices)
        or (key.minimum is not None and value < key.minimum)
        or (key.maximum is not None and value > key.maximum)
        or (key.above is not None and value <= key.above)
    )
    if outside:
        raise TypeError
    return value


def _fix(key: Key, given: Any) -> str:
    """What to write instead of ``given``."""
    if key.is_mapping:
        return f"write a mapping, e.g. {key.name}={{env: 0-3, rollout: 4-7, actor: 8-15}}, or leave it out"
    if key.is_list and not isinstance(given, list):
        return f"write a list, e.g. {key.name}=[{show(given)}]"
    if key.choices and isinstance(given, str) and (hint := did_you_mean(given, list(map(show, key.choices)))):
        return hint.strip()
    if key.default in ("", [], None):
        return f"give such a value for {key.name}" + (f", or {key.name}=null" if key.optional else "")
    return f"give such a value, e.g. {key.name}={show(key.default)} (the default)"
