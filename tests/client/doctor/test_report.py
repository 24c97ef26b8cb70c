"""The whole report: what a config's problems look like, and the exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from siirl.client import doctor
from siirl.client.doctor import ask, check_settings, main, shown
from siirl.client.doctor.lines import Line, Question
from tests.workers.runs import command_line


def test_every_problem_of_the_config_is_a_line_with_its_fix(policy: Path, tmp_path: Path) -> None:
    name, *overrides = command_line(tmp_path, policy, {"data.shufle": "true", "algorithm.gamma": 0.9})
    question = ask(name.partition("=")[2], overrides, None)
    first, second = check_settings(question)
    assert first == Line(
        "fail",
        "config",
        "data.shufle=true: allowed: a key that `python -m siirl.config.reference` lists (docs/config.md); there is none of "
        "this name",
        "did you mean data.shuffle?",
    )
    assert (second.level, second.text.startswith("algorithm.gamma=0.9: allowed:")) == ("fail", True)
    assert question.named
    (line,) = check_settings(ask(name.partition("=")[2], command_line(tmp_path, policy)[1:], None))
    assert line.level == "pass"


def test_a_config_that_cannot_be_composed_leaves_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    question = ask("quikstart", [], None)
    assert not question.named
    (line,) = check_settings(question)
    assert (line.level, line.fix) == ("fail", "Did you mean 'quickstart'?")


@pytest.mark.parametrize(("level", "code"), [("pass", 0), ("warn", 0), ("fail", 1)])
def test_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: str, code: int
) -> None:
    asked: list[Question] = []

    def check(question: Question):
        asked.append(question)
        yield Line(level, "test", "what there is", "" if level == "pass" else "what to do")

    monkeypatch.setattr(doctor, "FIRST", (check,))
    monkeypatch.setattr(doctor, "REST", ())
    assert main(["--deep"]) == code
    assert (asked[0].named, asked[0].deep) == (False, True)
    out = capsys.readouterr().out
    assert out.startswith(f"{level}  test          what there is\n")
    assert ("→ what to do" in out) == (level != "pass")
    assert (
        out.splitlines()[-1]
        == {
            "pass": "1 passed, 0 warnings, 0 failed",
            "warn": "0 passed, 1 warning, 0 failed",
            "fail": "0 passed, 0 warnings, 1 failed",
        }[level]
    )


def test_without_a_pytorch_that_can_be_imported_the_rest_waits(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "siirl.client.doctor", "--config-name=quickstart"]
    told = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "fail  PyTorch       cannot be imported: libcudart.so.13: cannot open shared object file" in told.stdout
    assert told.stdout.splitlines()[-3].startswith("warn  the rest")


def test_a_terminal_gets_colours() -> None:
    assert shown(Line("fail", "disk", "full", "free some"), styled=True).startswith("\033[31mfail\033[0m  disk ")
