"""`siirl_vulkan` of scripts/setup.sh, with stand-ins for the package manager and for the question whether ManiSkill can draw."""

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "scripts" / "setup.sh"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with a .venv whose Python cannot draw until ``drawable`` exists, and an apt-get that installs it."""
    commands = {
        ".venv/bin/python": '[ -e drawable ] || { echo "no device" >&2; exit 1; }',
        "bin/apt-get": 'echo "apt-get $*" >>calls; case "$*" in *install*) [ -e broken ] || touch drawable;; esac',
        "bin/apt-cache": "cat sources 2>/dev/null || true",
        "bin/grep": 'case "$*" in *os-release*) [ -e bookworm ];; '
        '*sources.list*) echo "http://mirror/debian ";; *) exec /bin/grep "$@";; esac',
        "bin/tee": 'cat >added; echo "tee $1" >>calls',
        "bin/sudo": 'exec "$@"',
    }
    for name, body in commands.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\n{body}\n")
        file.chmod(0o755)
    return tmp_path


def vulkan(machine: Path) -> tuple[int, list[str]]:
    """Exit code, and what was called."""
    environment = os.environ | {"PATH": f"{machine}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"source {SETUP}; siirl_vulkan"], cwd=machine, env=environment, check=False
    )
    calls = machine / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_nothing_is_installed_where_it_can_draw(machine: Path) -> None:
    (machine / "drawable").touch()
    assert vulkan(machine) == (0, [])


def test_debian_12_takes_one_package_from_its_backports(machine: Path) -> None:
    (machine / "bookworm").touch()
    code, calls = vulkan(machine)
    assert code == 0
    assert calls[0].startswith("tee /etc/apt/sources.list.d/")
    assert "http://mirror/debian bookworm-backports main" in (machine / "added").read_text(), "apt's own mirror"
    assert calls[-1].endswith("libvulkan1 mesa-vulkan-drivers/bookworm-backports")


def test_backports_that_are_there_are_not_added_again(machine: Path) -> None:
    (machine / "bookworm").touch()
    (machine / "sources").write_text(" 100 http://mirror/debian bookworm-backports/main amd64 Packages\n")
    code, calls = vulkan(machine)
    assert code == 0
    assert not any(call.startswith("tee") for call in calls)


def test_other_distributions_take_their_own(machine: Path) -> None:
    code, calls = vulkan(machine)
    assert code == 0
    assert calls[-1].endswith("libvulkan1 mesa-vulkan-drivers")
    assert not (machine / "added").exists()


def test_a_driver_that_does_not_do_is_told(machine: Path) -> None:
    (machine / "broken").touch()
    code, _ = vulkan(machine)
    assert code == 1
