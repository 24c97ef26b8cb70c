"""Two hosts on one machine: network namespaces with an address each and a cable between them.

They share the file system and the processor, and nothing else that a network sees: what reaches the other host went
through the cable, which can be cut. Needs root and ``ip`` (Debian's iproute2); `forbidden` says why not.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

INTERFACE = "cable"
"""The network interface of each host."""


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def forbidden() -> str | None:
    """Why this machine cannot have two hosts; None where it can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (apt-get install iproute2)"
    name = f"siirl-probe-{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except OSError as error:
        return f"network namespaces are forbidden: {error}"
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("netns", "exec", name, "true")
    except OSError as error:
        return f"network namespaces are of no use: {error}"
    finally:
        _ip("netns", "del", name)
    return None


class Host:
    """One namespace."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def start(self, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
        """Start a command on this host, in a session of its own; ``options`` are those of `subprocess.Popen`."""
        # who runs the tests in the background may ignore Ctrl-C, which children inherit and a shell then cannot trap
        inside = ["ip", "netns", "exec", self.name, "env", "--default-signal=INT"]
        return subprocess.Popen([*inside, *command], env=environment, text=True, start_new_session=True, **options)

    def processes(self) -> dict[int, str]:
        """Every process on this host that still runs: its number and command line."""
        found = {}
        for number in map(int, _ip("netns", "pids", self.name).split()):
            try:
                with open(f"/proc/{number}/cmdline", "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if line:  # a zombie has none
                found[number] = line
        return found

    def kill(self) -> None:
        """Pull the plug: every process on this host is gone at once."""
        while running := self.processes():
            for number in running:
                try:
                    os.kill(number, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)


def remove_abandoned() -> None:
    """Remove the hosts of test runs that were killed, and what still runs on them."""
    for name in _namespaces():
        owner = re.fullmatch(r"siirl-(\d+)-[01]", name)
        if owner and not Path("/proc", owner[1]).exists():
            Host(name, "").kill()
            _ip("netns", "del", name)


def _namespaces() -> set[str]:
    return {line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()}


class Hosts:
    """Context manager: two hosts, ``10.77.0.1`` and ``10.77.0.2``, that see only each other. Whatever runs on them is killed at
    the end.

    Raises:
        OSError: the machine refuses, see `forbidden`.
    """

    def __init__(self) -> None:
        self.hosts = [Host(f"siirl-{os.getpid()}-{number}", f"10.77.0.{number + 1}") for number in range(2)]

    def __enter__(self) -> Self:
        remove_abandoned()
        try:
            for host in self.hosts:
                _ip("netns", "add", host.name)
            first, second = self.hosts
            _ip("-n", first.name, "link", "add", INTERFACE, "type", "veth", "peer", INTERFACE, "netns", second.name)
            for host in self.hosts:
                _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", INTERFACE)
                _ip("-n", host.name, "link", "set", "lo", "up")
                _ip("-n", host.name, "link", "set", INTERFACE, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def __getitem__(self, number: int) -> Host:
        return self.hosts[number]

    def cut(self) -> None:
        """Cut the cable: packets are lost without a word, as behind a dead switch."""
        _ip("-n", self.hosts[1].name, "link", "set", INTERFACE, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        _ip("-n", self.hosts[1].name, "link", "set", INTERFACE, "up")

    def _remove(self) -> None:
        there = _namespaces()
        for host in self.hosts:
            if host.name in there:
                host.kill()
                _ip("netns", "del", host.name)
