"""The command ``siirl``. A subcommand's module is imported when it is called, so that the help is there at once."""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from siirl import __version__
from siirl.client.interrupts import INTERRUPTED
from siirl.registry import did_you_mean

BROKEN_PIPE = 141
"""Exit code of a shell's own for a command that a closed pipe ended."""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: as it is typed.
        module: has ``main(argv) -> int``, which returns the exit code.
        summary: what it does, in one line.
        settings: whether it takes ``--config-name`` and ``key=value``.
    """

    name: str
    module: str
    summary: str
    settings: bool = False


GROUPS = {
    "Before a run": (
        Command("doctor", "siirl.client.doctor", "whether this machine can do what a config asks for", settings=True),
        Command("plan", "siirl.client.plan", "what a run would do, where, in how much memory", settings=True),
    ),
    "Training": (
        Command("train", "siirl.client.main_dag", "train a policy by reinforcement learning", settings=True),
        Command("collect-demos", "siirl.client.collect_demos", "demonstrations of a scripted expert"),
        Command("sft", "siirl.client.sft", "train a small policy on demonstrations, as a start"),
        Command(
            "train-world-model", "siirl.client.train_world_model", "train a small world model on recorded rollouts"
        ),
    ),
    "After a run": (
        Command("evaluate", "siirl.client.evaluate", "success of a policy on every task and trial", settings=True),
        Command("compare", "siirl.client.compare", "two evaluations, trial by trial"),
        Command("report", "siirl.client.report", "a page of a run, or of several beside each other"),
        Command("export", "siirl.client.export", "take the policy out, as a Hugging Face folder"),
        Command("export-episodes", "siirl.client.export_episodes", "an evaluation's episodes as a LeRobotDataset"),
    ),
    "This command": (Command("completion", "siirl.client.completion", "complete it in bash, zsh or fish"),),
}
"""What there is, as the help page shows it."""

COMMANDS = {command.name: command for group in GROUPS.values() for command in group}

HEAD = f"siirl {__version__} – reinforcement learning for robot policies in simulation"
USAGE = "siirl COMMAND [OPTION …] [KEY=VALUE …]"
EXAMPLES = (
    ("siirl doctor --config-name=quickstart", "is all there that it needs?"),
    ("siirl plan   --config-name=quickstart", "what it would do"),
    ("siirl train  --config-name=quickstart", "11 minutes on two cores"),
    ("siirl train  --help", "the settings that matter most"),
)
EXIT_CODES = "exit code: 0 done, 1 failed, 2 something to put right, 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_page(styled=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"siirl {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(unknown(name), file=sys.stderr)
        return 2
    return run(COMMANDS[name], rest)


def run(command: Command, arguments: list[str]) -> int:
    """A subcommand's exit code. Its errors are its own; what ends it from outside leaves no traceback."""
    try:
        code: int = importlib.import_module(command.module).main(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in: siirl plan | head
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else Python complains when it flushes at the end
        return BROKEN_PIPE


def unknown(name: str) -> str:
    """The message about a first word that is no command."""
    if name.startswith("-") or "=" in name:
        return f"siirl: {name} comes after a command, e.g. siirl train {name}; siirl --help lists the commands"
    hint = did_you_mean(name, list(COMMANDS))
    return (
        f"siirl: there is no command {name!r}; allowed: {', '.join(COMMANDS)}.{hint} siirl --help says what each does."
    )


def help_page(styled: bool = False) -> str:
    """What ``siirl --help`` prints, with titles in bold and hints in grey where the terminal shows ``styled`` text."""
    bold, dim, plain = ("\033[1m", "\033[2m", "\033[0m") if styled else ("", "", "")
    lines = [HEAD, "", f"  {USAGE}"]
    for title, commands in GROUPS.items():
        lines += ["", f"{bold}{title}{plain}", *(f"  {c.name:<19}{c.summary}" for c in commands)]
    width = max(len(example) for example, _ in EXAMPLES) + 3
    lines += ["", f"{bold}Start here{plain}"]
    lines += [f"  {example:<{width}}{dim}{about}{plain}" for example, about in EXAMPLES]
    more = "siirl COMMAND --help tells more about one. Every config key: docs/config.md"
    return "\n".join([*lines, "", more, f"{dim}{EXIT_CODES}{plain}"])


if __name__ == "__main__":
    sys.exit(main())
