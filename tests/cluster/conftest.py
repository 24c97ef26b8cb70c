"""Two hosts for the tests of this folder."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, forbidden
from tests.cluster.launches import Launcher


@pytest.fixture(scope="session")
def _two_hosts() -> Iterator[Hosts]:
    if reason := forbidden():
        pytest.skip(f"TWO HOSTS ARE NOT TESTED ON THIS MACHINE: {reason}")
    with Hosts() as hosts:
        yield hosts


@pytest.fixture
def hosts(_two_hosts: Hosts) -> Iterator[Hosts]:
    """Two hosts with nothing running on them and an unbroken cable."""
    yield _two_hosts
    _two_hosts.mend()
    for host in _two_hosts.hosts:
        host.kill()


@pytest.fixture
def launcher(hosts: Hosts, tmp_path: Path) -> Iterator[Launcher]:
    """Starts ``launch_cluster.sh`` on both hosts, with one Ray token."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    assert os.stat(token).st_mode & 0o777 == 0o600
    with tempfile.TemporaryDirectory(
        prefix="s", dir="/tmp", ignore_cleanup_errors=True
    ) as short:  # Ray's sockets need it
        yield Launcher(hosts, token, tmp_path, Path(short))
