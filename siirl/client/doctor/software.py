"""Python, the packages and Ray."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import psutil
from packaging.requirements import Requirement

from siirl.client.doctor.lines import Line, Question
from siirl.config.estimate import GIB

OLDEST, NEWEST = (3, 11), (3, 13)
"""Python that siirl is tested with."""
SMALL_SHM = 1.0
"""GiB of shared memory below which Ray's object store is certain to fall back to the disk."""
RAY_SECONDS = 180
"""Longest that starting and stopping Ray may take; it takes 5."""


def check_python(question: Question) -> Iterator[Line]:
    """The interpreter and its operating system."""
    yield python_line(sys.version_info[:2], platform.system())


def python_line(found: tuple[int, int], system: str) -> Line:
    """Whether siirl runs in this Python on this system."""
    text = f"{platform.python_version()} on {system} {platform.machine()}, {sys.executable}"
    if not OLDEST <= found <= NEWEST:
        allowed = " to ".join(".".join(map(str, version)) for version in (OLDEST, NEWEST))
        return Line("fail", "Python", text, f"make an environment with Python {allowed}")
    if system != "Linux":
        return Line("warn", "Python", text, "simulators and Ray are tested on Linux alone; use it, or a container")
    return Line("pass", "Python", text)


def check_packages(question: Question) -> Iterator[Line]:
    """What ``setup.py`` asks for: always, and for what the config uses."""
    try:
        needed = [Requirement(text) for text in requires("siirl") or []]
    except PackageNotFoundError:
        yield Line("warn", "packages", "siirl is not installed, only imported from its folder", "pip install -e .")
        return
    yield from package_lines(needed, used_extras(question), installed_version)


def used_extras(question: Question) -> set[str]:
    """The extras of ``setup.py`` that a config needs; its simulator's has a check of its own."""
    return {"lora"} if question.named and question.config.actor_rollout_ref.model.lora_rank else set()


def installed_version(package: str) -> str | None:
    """The version of an installed package, None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def package_lines(needed: list[Requirement], extras: set[str], find: Callable[[str], str | None]) -> Iterator[Line]:
    """A line for each package that is missing or of an untested version, or one for all.

    Args:
        needed: what siirl requires, with its markers.
        extras: those that are used.
        find: a package's installed version.
    """
    used = [r for r in needed if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in ("", *extras))]
    wrong = False
    for requirement in used:
        found = find(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            continue
        wrong = True
        fix = f"pip install '{requirement.name}{requirement.specifier}'"
        if found is None:
            yield Line("fail", "packages", f"{requirement.name} is missing", fix)
        else:
            tested = f"{requirement.name} {found} is untested; tested: {requirement.specifier}"
            yield Line("warn", "packages", tested, fix)
    if not wrong:
        yield Line("pass", "packages", f"the {len(used)} that siirl needs are there, in tested versions")


def check_ray(question: Question) -> Iterator[Line]:
    """Ray, and whether its object store has memory to share."""
    if question.named and question.config.trainer.backend == "inline":
        yield Line("pass", "Ray", "not used with trainer.backend=inline")
        return
    if installed_version("ray") is None:
        return  # the packages' line says so
    address = os.environ.get("RAY_ADDRESS")
    where = f"joins the cluster at RAY_ADDRESS={address}" if address else "starts on this machine with the run"
    if question.deep:
        yield started_ray([sys.executable, "-m", "siirl.workers.probe"])
    else:
        yield Line("pass", "Ray", f"{version('ray')}, {where}; --deep tries that")
    yield shared_memory_line(shutil.disk_usage("/dev/shm").total / GIB, psutil.virtual_memory().total / GIB)


def started_ray(command: list[str]) -> Line:
    """What a process says that starts Ray, lets it compute and stops it."""
    fix = "see Ray's logs in /tmp/ray/session_latest/logs; docs/troubleshooting.md"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RAY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Line("fail", "Ray", f"did not answer within {RAY_SECONDS} s", fix)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Line("fail", "Ray", f"does not start: {said[-1]}", fix)
    return Line("pass", "Ray", done.stdout.strip().splitlines()[-1])


def shared_memory_line(shared: float, memory: float) -> Line:
    """Whether ``/dev/shm`` (GiB) suits a machine with so much ``memory`` (GiB): Ray keeps trajectories there."""
    text = f"/dev/shm has {shared:.1f} GiB, the machine {memory:.0f}"
    if shared < SMALL_SHM:
        fix = "without it Ray writes to the disk; in a container: docker run --shm-size=8g"
        return Line("warn", "shared memory", text, fix)
    return Line("pass", "shared memory", text)
