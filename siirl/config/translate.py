"""Applies the table of RLinf's keys (`aliases`, `computed`) to what was given under those names."""

from collections.abc import Sequence
from typing import Any

from siirl.config.aliases import CHOICES, EARLIER, ONLY, SAME_NAME, THEIR_MARK, UNREAD, match
from siirl.config.computed import AGGREGATION, COMPUTED, NAMES, RESET, Computed
from siirl.config.keys import get_value
from siirl.config.problems import problem, show
from siirl.config.reading import DEFAULTS, Reading, Setting
from siirl.config.theirs import SKIP

Given = Sequence[tuple[str, Any]]
VALIDATING = {
    "runner.val_check_interval",
    "trainer.test_freq",
    "runner.only_eval",
    "trainer.val_only",
    "trainer.val_before_train",
}


def is_theirs(name: str) -> bool:
    """Whether a name is RLinf's alone, and more than another spelling of one of our keys."""
    return name not in SAME_NAME and in_own_file(name)


def own_file(files: Given) -> bool:
    """Whether the files are RLinf's own."""
    return any(name == THEIR_MARK for name, _ in files)


def in_own_file(name: str) -> bool:
    """Whether a name has a meaning in RLinf's own file that is more than another spelling."""
    return name in NAMES or name in CHOICES or bool(match(name, ONLY) or match(name, UNREAD))


def without_validation(files: Given, command_line: Given, reading: Reading) -> list[tuple[str, Any]]:
    """What RLinf's own files give, without what concerns validation if there is none."""
    asked = {name: value for name, value in (*files, *command_line) if name in VALIDATING}
    if any(value is True or (value is not False and str(value) != "-1") for value in asked.values()):
        return list(files)
    if any(name.startswith("env.eval.") for name, _ in files):
        reading.ignore("env.eval.*", "nothing is validated (runner.val_check_interval)")
    return [(name, value) for name, value in files if not name.startswith("env.eval.")]


def translate(theirs: dict[str, Setting], ours: dict[str, Setting], reading: Reading) -> None:
    """Set what follows from ``theirs``, whose values are resolved; ``ours`` says which of our keys were given, and grows.

    Where both were given, the command line wins over files; from the same source they must agree.
    """
    for name, setting in theirs.items():
        if name in CHOICES:
            _choose(setting, ours, reading)
    for row in COMPUTED:
        given = [theirs[name] for name in row.names if name in theirs]
        if row.names == (THEIR_MARK,):
            given = [setting._replace(source=DEFAULTS) for setting in given]  # what the file says otherwise wins
        if given:
            _compute(row, given, theirs, ours, reading)
    if RESET in theirs and AGGREGATION in theirs:
        reading.ignore(AGGREGATION, f"RLinf does not read it for robots; {RESET} decides")
    for name, setting in theirs.items():
        if pattern := match(name, ONLY):
            only = ONLY[pattern]
            if setting.value not in only.values:
                allowed = f"{' or '.join(map(show, only.values))}: {only.why}"
                reading.problems.append(
                    problem(setting.name, setting.value, allowed, f"{setting.name}={show(only.values[0])}")
                )
        elif pattern := match(name, UNREAD):
            reading.ignore(pattern if "*" in pattern else setting.name, UNREAD[pattern])


def _choose(setting: Setting, ours: dict[str, Setting], reading: Reading) -> None:
    """A value that has another name here."""
    key, choices = CHOICES[EARLIER.get(setting.name, setting.name)]
    if setting.value in choices:
        _put(key, choices[setting.value], [setting], ours, reading)
    else:
        fix = f"give one of these, or {key}"
        reading.refuse(key, problem(setting.name, setting.value, ", ".join(map(show, choices)), fix))


def _compute(
    row: Computed, given: list[Setting], theirs: dict[str, Setting], ours: dict[str, Setting], reading: Reading
) -> None:
    """A value that follows from several there."""
    estimator = reading.config.algorithm.adv_estimator
    if row.read_with_gae and estimator != "gae":
        for setting in given:
            reading.ignore(setting.name, f"read with gae only, and this is {estimator}")
        return
    try:
        value = row.function({name: setting.value for name, setting in theirs.items()}, reading.config)
    except ValueError as error:
        allowed, fix = error.args
        last = max(given, key=lambda setting: setting.source)
        reading.refuse(row.key, problem(last.name, last.value, allowed, fix))
    else:
        if value is not SKIP:
            _put(row.key, value, given, ours, reading)


def _put(key: str, value: Any, given: list[Setting], ours: dict[str, Setting], reading: Reading) -> None:
    """Set our key, unless it was given otherwise by the command line; from the same source the two must agree."""
    last = max(given, key=lambda setting: setting.source)
    before = ours.get(key)
    if before is None or before.source < last.source:
        ours[key] = Setting(last.name, value, last.source)
        reading.put(key, value, last.name if len(given) == 1 and value == last.value else key)
    elif before.source == last.source and key not in reading.bad_keys and get_value(reading.config, key) != value:
        said = ", ".join(f"{setting.name}={show(setting.value)}" for setting in given)
        allowed = f"{show(value)}, since {said} says so"
        fix = f"keep one of the two, {before.name} or {last.name}"
        reading.refuse(key, problem(before.name, get_value(reading.config, key), allowed, fix))
