"""What may stand at the end of a half-typed command line: commands, options, configs, config keys and their values.

Nothing heavy is imported: a shell asks at every press of the TAB key.
"""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from siirl.client.cli import COMMANDS, Command
from siirl.client.completion import SHELLS
from siirl.config.folders import shipped_folder
from siirl.config.keys import KEYS, SECTIONS, Key
from siirl.config.problems import show

Candidates = dict[str, str]
"""Word → what it means, in a few words. One that ends in ``=`` or ``.`` is to be continued."""

CONFIG_NAME, CONFIG_DIR = ("-cn", "--config-name"), ("-cd", "--config-dir")
COMMAND_LINE = "siirl.config.load"
"""The module that reads the options of the commands with settings."""


def candidates(words: Sequence[str]) -> Candidates:
    """What the last of ``words``, which follow ``siirl`` and may be empty, can become; empty where a file may be meant."""
    *before, current = words
    if not before:
        found = {name: command.summary for name, command in COMMANDS.items()}
        found |= {"--help": "what there is", "--version": "which siirl this is"} if current.startswith("-") else {}
    elif before[0] == "completion":
        found = dict.fromkeys(SHELLS, "")
    elif before[0] == "help":
        found = {name: command.summary for name, command in COMMANDS.items()}
    elif before[0] in COMMANDS:
        found = _arguments(COMMANDS[before[0]], before, current)
    else:
        found = {}
    return {word: about for word, about in found.items() if word.startswith(current)}


def _arguments(command: Command, before: Sequence[str], current: str) -> Candidates:
    """Of a command that is typed already."""
    name, sign, _ = current.partition("=")
    if command.settings and before[-1] in CONFIG_NAME:
        return dict.fromkeys(_config_names(before), "")
    if command.settings and sign and name in CONFIG_NAME:
        return dict.fromkeys((f"{name}={config}" for config in _config_names(before)), "")
    if current.startswith("-"):
        return options(command)
    if not command.settings or before[-1] in CONFIG_DIR:
        return {}
    return dict.fromkeys(_values(name), "") if sign else _keys(current)


def options(command: Command) -> Candidates:
    """The options that a command's parser adds and their meaning, read from its source: importing it may take seconds."""
    found = {"--help": "what it takes"}
    for module in (command.module, *([COMMAND_LINE] if command.settings else [])):
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"{module} is a module of ours"
        assert spec.origin is not None, f"{module} has a source"
        for call in ast.walk(ast.parse(Path(spec.origin).read_text())):
            if isinstance(call, ast.Call):
                found |= _option(call)
    return found


def _option(call: ast.Call) -> Candidates:
    """The options of a call of argparse's ``add_argument``, or of ``add`` where that stands for it; of other calls, none."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    names = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    flags = [name for name in names if isinstance(name, str) and name.startswith("--")]
    if function not in ("add", "add_argument") or not flags:
        return {}
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    text = given.get("help")
    about = str(text.value) if isinstance(text, ast.Constant) else ""
    action = given.get("action")
    if isinstance(action, ast.Attribute) and action.attr == "BooleanOptionalAction":
        flags += [f"--no-{flag.removeprefix('--')}" for flag in flags]
    return dict.fromkeys(flags, about)


def _config_names(before: Sequence[str]) -> list[str]:
    """The files to start from, those of ``--config-dir`` included."""
    folders = [shipped_folder("configs")]
    for word, following in zip(before, [*before[1:], ""], strict=True):
        name, sign, value = word.partition("=")
        if name in CONFIG_DIR:
            folders.append(Path(value if sign else following).expanduser())
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def _groups() -> dict[str, list[str]]:
    """The shipped config groups, such as ``model``, and the files that each has."""
    folders = (path for path in sorted(shipped_folder("configs").iterdir()) if path.is_dir())
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def _keys(current: str) -> Candidates:
    """Keys and sections one level below the section that ``current`` is in, as a file manager goes down folders."""
    section = current.rpartition(".")[0]
    found = {f"{name}=": "a file of settings" for name in _groups()} if not section else {}
    for name, kind in SECTIONS.items():
        if name and name.rpartition(".")[0] == section:
            found[f"{name}."] = (kind.__doc__ or "").strip().rstrip(".")
    return found | {f"{name}=": key.doc for name, key in KEYS.items() if name.rpartition(".")[0] == section}


def _values(name: str) -> Iterator[str]:
    """``name=value`` for each value that a key with few of them, or a config group, may have."""
    known = _groups().get(name) or (_allowed(KEYS[name]) if name in KEYS else [])
    yield from (f"{name}={value}" for value in known)


def _allowed(key: Key) -> list[str]:
    values = key.choices or ((True, False) if key.item is bool else ())
    return [show(value) for value in values] + (["null"] if key.optional else [])
