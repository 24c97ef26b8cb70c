"""From names and values, as files and command line give them, to the values of our keys.

Every name keeps its own value in one tree, so that ``${…}`` may refer to a setting by any of its names, and a later source wins
under any of them.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from siirl.config.aliases import ALIASES, EARLIER, THEIR_DEFAULTS, UNREAD, match, our_key
from siirl.config.keys import KEYS, SECTIONS, convert, get_value
from siirl.config.overrides import entry_of, one_line
from siirl.config.placement import with_entry
from siirl.config.problems import ConfigError, problem, show
from siirl.config.reading import COMMAND_LINE, DEFAULTS, FILES, Reading, Setting
from siirl.config.suggest import unknown_key
from siirl.config.translate import Given, in_own_file, is_theirs, own_file, translate, without_validation

ELSEWHERE = "_elsewhere"
"""Where the tree holds names that lie below one of our keys, or are one of ours in another sense."""


def collect(files: Given, command_line: Given, reading: Reading) -> None:
    """Read everything that was given into ``reading``.

    Args:
        files: names and values of the composed files, interpolations unresolved.
        command_line: those of the command line; the last value of a name counts.
        reading: gets the values, the problems, and what means nothing here.
    """
    values = Values(reading)
    if theirs := own_file(files):
        values.add(THEIR_DEFAULTS.items(), DEFAULTS, is_theirs)
        files = without_validation(files, command_line, reading)
    values.add(files, FILES, in_own_file if theirs else is_theirs)
    values.add(command_line, COMMAND_LINE, is_theirs)
    values.read()


class Values:
    """What was given so far, by the key that it means."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.ours: dict[str, list[Setting]] = {}
        """Our key → its settings in the latest source that has any, in the order given."""
        self.theirs: dict[str, list[Setting]] = {}
        """The same, for RLinf's names that are more than another spelling."""

    def add(self, given: Iterable[tuple[str, Any]], source: int, theirs: Callable[[str], bool]) -> None:
        """Take one source's settings, and report names that mean nothing."""
        for name, value in given:
            setting = Setting(name, value, source)
            if theirs(EARLIER.get(name, name)):
                self._take(self.theirs, EARLIER.get(name, name), setting)
            elif our_key(name) in KEYS:
                self._take(self.ours, our_key(name), setting)
            elif mapping := entry_of(name):
                self._take_entry(mapping, setting)
            elif name in SECTIONS:
                members = ", ".join(f.name for f in dataclasses.fields(SECTIONS[name]))
                allowed = f"a section with the keys {members}"
                self.reading.problems.append(problem(name, value, allowed, f"set {name}.<key>"))
            else:
                self.reading.problems.append(unknown_key(name, value))

    def _take(self, settings: dict[str, list[Setting]], key: str, setting: Setting) -> None:
        before = [s for s in settings.get(key, []) if s.source == setting.source and s.name != setting.name]
        settings[key] = [*before, setting]

    def _take_entry(self, mapping: str, setting: Setting) -> None:
        """Change one entry of a mapping that was given before, or begin one."""
        before = self.ours.get(mapping)
        entries = before[-1].value if before else KEYS[mapping].default
        entries = {} if entries is None else entries
        if isinstance(entries, dict):
            merged = with_entry(entries, setting.name.rpartition(".")[2], setting.value)
            self.ours[mapping] = [Setting(mapping, merged, setting.source)]
        else:
            allowed = f"an entry of a mapping, and {mapping}={show(entries)} is none"
            self.reading.problems.append(problem(setting.name, setting.value, allowed, f"set {mapping} as a whole"))

    def read(self) -> None:
        """Resolve interpolations, convert every value, set it in the config, and translate what is RLinf's."""
        tree, reading = self._tree(), self.reading
        for key in KEYS:
            settings = self.ours.get(key, [Setting(key, KEYS[key].default, DEFAULTS)])
            for i, setting in enumerate(settings):
                try:
                    value = resolve(tree, place(setting.name))
                except OmegaConfBaseException as error:
                    reading.refuse(key, _unresolved(setting, KEYS[key].allowed, error))
                    continue
                if i == 0:
                    reading.put(key, value, setting.name)
                elif key not in reading.bad_keys:
                    self._compare(key, settings[0], setting._replace(value=value))
        translate(self._resolved(tree), {key: given[0] for key, given in self.ours.items()}, reading)

    def _compare(self, key: str, first: Setting, setting: Setting) -> None:
        """Report a second name's value that is not the first one's."""
        value = get_value(self.reading.config, key)
        try:
            agrees = convert(KEYS[key], setting.value) == value
        except ConfigError:
            agrees = False
        if not agrees:
            self.reading.refuse(key, disagreement(setting, first.name, value))

    def _resolved(self, tree: Any) -> dict[str, Setting]:
        """What was given under RLinf's names, with its values; the names that mean nothing keep theirs as written."""
        found: dict[str, Setting] = {}
        for name, settings in self.theirs.items():
            for setting in settings:
                try:
                    if match(name, UNREAD) is None:
                        setting = setting._replace(value=resolve(tree, place(setting.name, theirs=True)))
                except OmegaConfBaseException as error:
                    self.reading.problems.append(_unresolved(setting, "a value", error))
                    continue
                first = found.setdefault(name, setting)
                if first.value != setting.value and match(name, UNREAD) is None:
                    self.reading.problems.append(disagreement(setting, first.name, first.value))
        return found

    def _tree(self) -> Any:
        """Every name's value at its own place; names that were not given refer to the key that they mean."""
        tree = OmegaConf.create({})
        for key in KEYS:
            OmegaConf.update(tree, key, KEYS[key].default)
        links = {name: our_key(name) for name in (*ALIASES, *EARLIER) if our_key(name) in KEYS}
        for name, key in links.items():
            OmegaConf.update(tree, place(name), f"${{{key}}}")
        for key, settings in self.ours.items():
            for setting in settings:
                OmegaConf.update(tree, place(setting.name), setting.value)
            if key not in {setting.name for setting in settings}:
                OmegaConf.update(tree, key, f"${{{place(settings[0].name)}}}")
        for setting in (setting for settings in self.theirs.values() for setting in settings):
            OmegaConf.update(tree, place(setting.name, theirs=True), setting.value)
        return tree


def disagreement(setting: Setting, other: str, value: Any) -> str:
    """The problem of a setting whose ``other`` name has another value."""
    allowed = f"{show(value)}, since {other}={show(value)} is the same setting under another name"
    return problem(setting.name, setting.value, allowed, f"keep one of the two, {setting.name} or {other}")


def place(name: str, theirs: bool = False) -> str:
    """Where the tree holds a name; ``theirs`` in RLinf's sense, if it is also the name of one of our keys."""
    parents = (name[:i] for i, char in enumerate(name) if char == ".")
    return f"{ELSEWHERE}.{name}" if (theirs and name in KEYS) or any(parent in KEYS for parent in parents) else name


def resolve(tree: Any, at: str) -> Any:
    """The plain value at a place, interpolations resolved."""
    value = OmegaConf.select(tree, at, throw_on_missing=True)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _unresolved(setting: Setting, allowed: str, error: Exception) -> str:
    fix = "give it a value, or repair what it refers to"
    return problem(setting.name, setting.value, f"{allowed} ({one_line(error)})", fix)
