"""The command ``siirl``: its help, its exit codes, and what it says to a word that it does not know."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from siirl.client import cli

ROOT = Path(__file__).parents[2]


def siirl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "siirl", *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_page_names_every_command(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    page = capsys.readouterr().out
    assert all(f"\n  {name} " in page for name in cli.COMMANDS)
    assert "\033" not in page, "styled for terminals alone"
    assert max(map(len, page.splitlines())) <= 80


def test_help_and_completion_import_nothing_heavy() -> None:
    code = (
        "import sys; from siirl.client import cli; cli.main(['--help']); cli.main(['completion', '--words', 'train', 'tr']); "
        "sys.exit(' '.join({'torch', 'ray', 'numpy', 'hydra', 'rich', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "", "imported"


def test_help_is_there_at_once() -> None:
    """Beside Python's own start, in time of the processor, so that a busy machine is no failure."""

    def seconds(*command: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(seconds("-m", "siirl", "--help") for _ in range(3)) < 0.3


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "siirl 0.1.0\n"


@pytest.mark.parametrize("command", cli.COMMANDS.values(), ids=list(cli.COMMANDS))
def test_every_command_has_a_help_page_under_its_own_name(
    capsys: pytest.CaptureFixture[str], command: cli.Command
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["help", command.name])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: siirl {command.name} [-h]")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trian", "there is no command 'trian'; allowed: doctor, plan, train"),
        ("trian", "Did you mean 'train'?"),
        ("--config-name=quickstart", "comes after a command, e.g. siirl train --config-name=quickstart"),
        ("trainer.seed=1", "comes after a command, e.g. siirl train trainer.seed=1"),
    ],
)
def test_an_unknown_word_is_told_with_what_was_meant(capsys: pytest.CaptureFixture[str], word: str, told: str) -> None:
    assert cli.main([word]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_what_ends_a_command_from_outside_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int
) -> None:
    def main(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(main=main))
    monkeypatch.setattr(os, "dup2", lambda old, new: None)  # pytest's own stdout
    assert cli.main(["train"]) == code


def test_a_closed_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m siirl completion zsh | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert int(done.stdout) in (0, 141)


def test_a_crash_is_exit_code_1_and_a_setting_2(monkeypatch: pytest.MonkeyPatch) -> None:
    done = siirl("plan", "trainer.sed=1")
    assert done.returncode == 2
    assert "did you mean trainer.seed?" in done.stderr
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(main=lambda argv: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])
