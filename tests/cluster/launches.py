"""Runs `launch_cluster.sh` on both hosts, and waits for what becomes of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.hosts import Hosts

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "scripts" / "launch_cluster.sh"
PROGRAM = Path(__file__).with_name("program.py")

IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
"""Ray finds a lost machine within seconds, not within a minute."""


@dataclass
class Launch:
    """The script on one host."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def ends(self, seconds: float = 60) -> int:
        """Its exit code; fails with its log when there is none after ``seconds``."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.said}") from None


class Launcher:
    """Starts the script on the hosts, as a user with a shell on each would."""

    def __init__(self, hosts: Hosts, token: Path, folder: Path, ray_folder: Path) -> None:
        self.hosts = hosts
        self.ray_folder = ray_folder
        self.token = token
        self.folder = folder

    def environment(self, rank: int, **more: str) -> dict[str, str]:
        """What the user exports on host ``rank``; Ray's folders lie in the test's own place."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_", "PET_"))
        }
        return {
            **inherited,
            "PYTHON": sys.executable,
            "PYTHONPATH": str(REPOSITORY),
            "PET_NNODES": "2",
            "PET_NODE_RANK": str(rank),
            "MASTER_ADDR": self.hosts[0].address,
            "RAY_TMPDIR": str(self.ray_folder),
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_worker_niceness": "0",
            "RAY_START_ARGS": "--num-cpus=1 --object-store-memory=100000000",
            **more,
        }

    def start(self, rank: int, command: Sequence[str], before: Sequence[str] = (), **environment: str) -> Launch:
        """Run ``before… launch_cluster.sh command…`` on host ``rank``."""
        log = self.folder / f"rank{rank}.log"
        with log.open("w") as file:
            process = self.hosts[rank].start(
                [*before, str(SCRIPT), *command],
                self.environment(rank, **environment),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        return Launch(process, log)


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until ``condition()``; fails with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
