"""Completion: what may stand where, in agreement with the real parsers, and through real shells."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siirl.client import cli
from siirl.client.candidates import candidates, options
from siirl.client.completion import SHELLS
from siirl.config.keys import KEYS, SECTIONS

ROOT = Path(__file__).parents[2]


def test_commands() -> None:
    assert list(candidates([""])) == list(cli.COMMANDS)
    assert list(candidates(["pl"])) == ["plan"]
    assert list(candidates(["help", "pl"])) == ["plan"]
    assert list(candidates(["completion", ""])) == list(SHELLS)
    assert candidates(["nonsense", ""]) == {}


def test_every_key_is_reached_from_the_root_level_by_level() -> None:
    found, waiting = set(), [""]
    while waiting:
        prefix = waiting.pop()
        for word in candidates(["train", prefix]):
            if word.endswith("."):
                waiting.append(word)
            else:
                found.add(word.removesuffix("="))
    assert found - {"algorithm", "cluster", "cpu_small", "env", "model"} == set(KEYS)
    assert all(
        candidates(["train", f"{name}."])[f"{name}.{key.name.rpartition('.')[2]}="] == key.doc
        for name, key in ((key.name.rpartition(".")[0], key) for key in KEYS.values() if "." in key.name)
    )
    assert all(SECTIONS[word.removesuffix(".")] for word in candidates(["plan", ""]) if word.endswith("."))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["train", "algorithm.reward_type="], ["chunk_level", "action_level"]),
        (["train", "dry_run=t"], ["true"]),
        (["train", "trainer.logger="], list(KEYS["trainer.logger"].choices or ())),
        (["doctor", "model="], ["openvla", "openvla_oft", "start_policy", "starvla"]),
        (["train", "trainer.seed="], []),
        (["export", "trainer."], []),
    ],
)
def test_values(typed: list[str], expected: list[str]) -> None:
    assert [word.partition("=")[2] for word in candidates(typed)] == expected


@pytest.mark.parametrize("typed", [["--config-name="], ["--config-name", ""], ["-cn", ""]])
def test_names_of_configs_also_from_a_folder_of_ones_own(tmp_path: Path, typed: list[str]) -> None:
    (tmp_path / "mine.yaml").touch()
    names = [word.partition("=")[2] or word for word in candidates(["train", "--config-dir", str(tmp_path), *typed])]
    assert {"mine", "quickstart", "embodied_srpo_trainer"} <= set(names)
    assert "mine" not in candidates(["train", *typed])
    assert candidates(["train", "--config-dir", ""]) == {}, "a folder"


@pytest.mark.parametrize("command", cli.COMMANDS.values(), ids=list(cli.COMMANDS))
def test_the_options_are_those_of_the_parser(command: cli.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers = []
    monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda self, file=None: parsers.append(self))
    with pytest.raises(SystemExit):
        cli.main([command.name, "--help"])
    flags = {flag for action in parsers[0]._actions for flag in action.option_strings if flag.startswith("--")}
    assert set(options(command)) == flags
    assert set(candidates([command.name, "--"])) == (set() if command.name == "completion" else flags)


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``siirl`` is this one."""
    script = tmp_path / "siirl"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {sys.executable} -m siirl "$@"\n')
    script.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


BASH = """
source <(siirl completion bash)
compopt() { echo "compopt $*"; }
COMP_LINE=$1 COMP_POINT=${#1}
_siirl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("siirl pl", "plan"),
        ("siirl train algorithm.reward_type=a", "action_level"),
        ("siirl train --config-name=qu", "quickstart"),
        ("siirl train --config-name qu", "quickstart"),
        ("siirl train trainer.max_st", "compopt -o nospace trainer.max_staleness="),
        ("siirl train act", "compopt -o nospace actor_rollout_ref."),
        ("siirl export runs", ""),
    ],
)
def test_bash(path: dict[str, str], line: str, expected: str) -> None:
    done = subprocess.run(["bash", "-c", BASH, "bash", line], env=path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == expected.split()


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("siirl pl", "plan"), ("siirl train algorithm.reward_type=a", "algorithm.reward_type=action_level")],
)
def test_fish(path: dict[str, str], line: str, expected: str) -> None:
    script = f"siirl completion fish | source; complete -C '{line}'"
    done = subprocess.run(["fish", "--no-config", "-c", script], env=path, capture_output=True, text=True)
    assert [row.partition("\t")[0] for row in done.stdout.splitlines()] == [expected]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_can_read_its_script() -> None:
    done = subprocess.run(["zsh", "-n"], input=SHELLS["zsh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
