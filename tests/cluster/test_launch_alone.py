"""`launch_cluster.sh` where it starts no cluster: one machine, somebody else's cluster, or variables that make no sense."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.launches import SCRIPT


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [str(SCRIPT), *command],
        env={**kept, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_machine_needs_no_variable() -> None:
    done = launch("bash", "-c", 'echo "${RAY_ADDRESS-none}"; exit 3')
    assert (done.returncode, done.stdout, done.stderr) == (3, "none\n", "")


@pytest.mark.parametrize(("rank", "out"), [("0", "10.0.0.9:6379\n"), ("1", "")])
def test_a_cluster_that_is_there_is_used_and_nothing_is_started(rank: str, out: str) -> None:
    echo = ("bash", "-c", 'echo "$RAY_ADDRESS"')
    done = launch(*echo, RAY_ADDRESS="10.0.0.9:6379", PET_NNODES="2", PET_NODE_RANK=rank)
    assert (done.returncode, done.stdout) == (0, out)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PET_NNODES": "1:4"}, "PET_NNODES=1:4: allowed: a number of machines from 1"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "2"}, "PET_NODE_RANK=2: allowed with PET_NNODES=2: 0 to 1"),
        ({"PET_NNODES": "2"}, "MASTER_ADDR is not set"),
        (
            {"GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "8"},
            "torchrun starts 8 processes here: allowed: one per machine",
        ),
        (
            {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.9", "RAY_AUTH_TOKEN_PATH": "none"},
            "no Ray token in none",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(environment: dict[str, str], message: str) -> None:
    done = launch("true", **environment)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    done = launch("true", PET_NNODES="2", MASTER_ADDR="10.0.0.9", RAY_AUTH_TOKEN_PATH=str(token))
    assert done.returncode == 2
    assert f"chmod 600 {token}" in done.stderr
    assert "secret" not in done.stderr


def test_a_head_that_never_answers_is_named_by_the_time_limit(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("secret")
    there = {"MASTER_ADDR": "127.0.0.1", "RAY_MASTER_PORT": "1", "RAY_AUTH_TOKEN_PATH": str(token)}
    done = launch("true", PET_NNODES="2", PET_NODE_RANK="1", CLUSTER_TIMEOUT="1", RAY_TMPDIR=str(tmp_path), **there)
    assert done.returncode == 2
    assert "no Ray head at 127.0.0.1:1 after 1 s" in done.stderr
