"""The command line's ``key=value``: read in Hydra's override grammar, and told what to write where that cannot read it."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from siirl.config.aliases import our_key
from siirl.config.keys import KEYS, SECTIONS
from siirl.config.problems import problem, show
from siirl.registry import did_you_mean

CLOSING = {"[": "]", "{": "}", "(": ")"}
QUOTES = "'\""
ENTRY = re.compile(r"((?:[a-z_]+\s*,\s*)*[a-z_]+)\s*:\s*(\[[^\]]*\]|all|\d[\d\s,-]*)")
"""Names and slots as a user may write them in a mapping, e.g. ``env,rollout: 0-3,8``."""
TOP_LEVEL_NAME = re.compile(r"(?:^|(?<!\\),)\s*([^:{}]+?)\s*:")
"""What stands before a colon in a mapping, which may hold escaped commas."""


def parse_overrides(overrides: Sequence[str]) -> tuple[list[tuple[str, Override]], list[str]]:
    """Those that Hydra's grammar can read and that we support, each with its text, and the problems of the others."""
    parser = OverridesParser.create()
    parsed, problems = [], []
    for text in overrides:
        name, sign, value = text.partition("=")
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            fix = _fix(parser, name, value) if sign else "write key=value"
            problems.append(f"{text}: allowed: key=value in Hydra's override grammar ({one_line(error)}). Fix: {fix}.")
            continue
        if twice := _named_twice(value):
            fix = "keep one of them"
            problems.append(problem(name, value, f"each name once, and {twice} is there twice", fix))
        elif override.is_sweep_override():
            takes_list = _takes_list(name)
            fix = f"write a list in brackets: {name}=[{value}]" if takes_list else f"give {name} one value"
            problems.append(problem(name, value, "the value of a single run; sweeps are not supported", fix))
        elif override.is_delete():
            problems.append(
                f"{text}: allowed: key=value; a key cannot be deleted. Fix: set the key to the value you want."
            )
        else:
            parsed.append((text, override))
    return parsed, problems


def _named_twice(text: str) -> str | None:
    """The first name that a mapping on the command line holds twice: Hydra keeps the last one without a word."""
    text = text.strip()
    if not text.startswith("{") or not text.endswith("}"):
        return None
    names = [name.strip() for name in TOP_LEVEL_NAME.findall(re.sub(r"\[[^\]]*\]", "", text[1:-1]))]
    return next((name for i, name in enumerate(names) if name in names[:i]), None)


def selects_file(override: Override, folders: Sequence[Path]) -> bool:
    """Whether an override selects a file of a config group, such as ``model=start_policy``."""
    name = override.key_or_group
    return bool(name) and any((folder / name).is_dir() for folder in folders)


def unknown_choices(selections: Sequence[Override], folders: Sequence[Path]) -> Iterator[str]:
    """The problems of selections of files that are in none of the ``folders``."""
    for override in selections:
        group, value = override.key_or_group, override.value()
        known = sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
        for choice in value if isinstance(value, list) else [value]:
            name = show(choice).removesuffix(".yaml")
            is_there = any((folder / group / f"{name}.yaml").is_file() for folder in folders)
            if not is_there and "${" not in name:  # what is interpolated only Hydra knows
                fix = did_you_mean(name, known).strip() or "name one of these"
                yield problem(group, choice, ", ".join(known), fix)


def misspelt_group(override: Override, folders: Sequence[Path]) -> str | None:
    """The problem of a name without a dot that is nearly a config group's, such as ``modle=openvla``; None for other names."""
    name = override.key_or_group
    groups = sorted({path.name for folder in folders for path in folder.glob("*") if path.is_dir()})
    meant = did_you_mean(name, groups)
    if "." in name or name in SECTIONS or our_key(name) in KEYS or not meant:
        return None
    return problem(name, override.value(), f"a key, or one of the config groups {', '.join(groups)}", meant.strip())


def entry_of(name: str) -> str | None:
    """The key whose mapping ``name`` is an entry of, e.g. ``cluster.component_placement`` for that with ``.env``."""
    parent = name.rpartition(".")[0]
    return parent if parent in KEYS and KEYS[parent].is_mapping else None


def one_line(error: Exception) -> str:
    """An exception's message without line breaks and without its closing full stop."""
    return " ".join(str(error).split()).rstrip(".")


def _takes_list(name: str) -> bool:
    key = our_key(name)
    return (key in KEYS and KEYS[key].is_list) or entry_of(name) is not None


def _fix(parser: OverridesParser, name: str, value: str) -> str:
    """What to write instead of a value that the grammar cannot read: the first of these that it can."""
    key = our_key(name)
    if key in KEYS and KEYS[key].is_mapping and (entries := _entries(value)):
        advice = "within a mapping, a backslash before each comma of a name, and brackets around slots with commas"
        if _reads(parser, written := f"{name}={entries}"):
            return f"{advice}: {_for_shell(written)}"
    balanced = _balanced(value)
    if balanced != value and _reads(parser, written := f"{name}={balanced}"):
        added = balanced[len(value) :]
        noun = "quote" if added[:1] in QUOTES and added else "bracket"
        return f"{'close the' if added else 'remove the surplus'} {noun}: {_for_shell(written)}"
    escaped = value.replace('"', '\\"')
    written = f'{name}="{escaped}"'
    return f"quote the value: {_for_shell(written)}"


def _for_shell(text: str) -> str:
    """``text`` in quotes, as a shell needs them."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def _reads(parser: OverridesParser, text: str) -> bool:
    try:
        return not parser.parse_override(text).is_sweep_override()
    except HydraException:
        return False


def _balanced(value: str) -> str:
    """``value`` with what it opens and leaves open closed at its end; without closing brackets that close nothing."""
    kept, expected, quote = "", "", ""
    for char in value:
        if quote:
            quote = "" if char == quote else quote
        elif char in QUOTES:
            quote = char
        elif char in CLOSING:
            expected = CLOSING[char] + expected
        elif char in CLOSING.values():
            if not expected.startswith(char):
                continue
            expected = expected[1:]
        kept += char
    return kept + quote + expected


def _entries(value: str) -> str | None:
    """A mapping of names to slots as the command line takes it, from one with quotes or bare commas; None for other text."""
    plain = re.sub(r"[\"'\\]", "", value)
    if not value.startswith("{") or ENTRY.sub("", plain).strip("{}, "):
        return None
    entries = []
    for match in ENTRY.finditer(plain):
        names, slots = re.sub(r"\s*,\s*", r"\\,", match[1]), match[2].strip(" ,")
        entries.append(f"{names}: {f'[{slots}]' if ',' in slots and not slots.startswith('[') else slots}")
    return "{" + ", ".join(entries) + "}"
