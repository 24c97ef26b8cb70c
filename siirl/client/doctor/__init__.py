"""``siirl doctor``: whether this machine can do what a config asks for. Each line passes, warns or fails, with the fix."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from siirl.client.doctor.accelerators import check_torch, torch_problem
from siirl.client.doctor.folders import check_policy, check_run_folder
from siirl.client.doctor.lines import Check, Line, Question
from siirl.client.doctor.network import check_network
from siirl.client.doctor.resources import check_disk, check_memory
from siirl.client.doctor.simulators import check_simulators
from siirl.client.doctor.software import check_packages, check_python, check_ray
from siirl.config.checks import check_config
from siirl.config.keys import KEYS
from siirl.config.load import read_config, settings_parser
from siirl.config.schema import Config

ABOUT = (
    "Check whether this machine can do what a config asks for; without a config, what the machine can do.\n"
    "Exit code 1 when a line fails."
)


def check_settings(question: Question) -> Iterator[Line]:
    """What is wrong with the config itself, and with what it names."""
    for problem in question.problems:
        text, _, fix = problem.partition(" Fix: ")
        yield Line("fail", "config", text.rstrip(". "), fix.rstrip("."))
    if question.named and not question.problems:
        yield Line("pass", "config", "every setting is one that can work")


def skip_rest(question: Question) -> Iterator[Line]:
    """Says that nothing else was looked at."""
    yield Line(
        "warn", "the rest", "not looked at: it needs PyTorch", "siirl doctor again, once PyTorch can be imported"
    )


FIRST: tuple[Check, ...] = (check_python, check_packages, check_torch)
"""What is looked at first, since the rest needs PyTorch."""
REST: tuple[Check, ...] = (
    check_ray,
    check_settings,
    check_policy,
    check_run_folder,
    check_memory,
    check_disk,
    check_network,
    check_simulators,
)
"""What is looked at, in this order; the last takes longest."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per finding; returns the exit code: 0, or 1 when one failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = settings_parser("doctor", ABOUT)
    parser.add_argument("--deep", action="store_true", help="also start and stop Ray, and load the policy")
    given = parser.parse_intermixed_args(arguments)
    named = any(argument != "--deep" for argument in arguments)
    question = ask(given.config_name, given.overrides, given.config_dir) if named else Question(Config(), named=False)
    question = replace(question, deep=given.deep)
    levels: Counter[str] = Counter()
    for check in (*FIRST, *(REST if not torch_problem() else (skip_rest,))):
        for line in check(question):
            levels[line.level] += 1
            print(shown(line, styled=sys.stdout.isatty() and "NO_COLOR" not in os.environ), flush=True)
    warnings = f"{levels['warn']} warning{'s' * (levels['warn'] != 1)}"
    print(f"{levels['pass']} passed, {warnings}, {levels['fail']} failed")
    return 1 if levels["fail"] else 0


def ask(config_name: str, overrides: Sequence[str], config_dir: str | None) -> Question:
    """The question that a command line asks. A config that cannot even be composed leaves the machine to look at."""
    reading = read_config(config_name, overrides, config_dir)
    composed = reading.bad_keys != set(KEYS)
    if composed:
        reading.check(check_config)
        if not torch_problem():
            from siirl.client.preflight import preflight  # here: it imports PyTorch

            reading.check(preflight)
    return Question(reading.config, composed, tuple(reading.problems))


COLOURS = {"pass": "\033[32m", "warn": "\033[33m", "fail": "\033[31m"}


def shown(line: Line, styled: bool = False) -> str:
    """A line of the report, and its fix below it."""
    colour, plain = (COLOURS[line.level], "\033[0m") if styled else ("", "")
    text = f"{colour}{line.level}{plain}  {line.about:<14}{line.text}"
    return f"{text}\n{'':20}→ {line.fix}" if line.fix else text
