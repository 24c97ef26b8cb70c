"""Several machines: Ray's token, rank 0, and its port (docs/cluster.md)."""

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from siirl.client.doctor.lines import Line, Question
from siirl.config.cluster import NODES
from siirl.config.keys import given
from siirl.config.schema import Config

CONNECT_SECONDS = 3.0
RAY_PORT, RAY_WORKERS = 6379, range(10002, 20000)
"""The head's usual port, and those that Ray's workers take."""


def check_network(question: Question) -> Iterator[Line]:
    """What several machines need of each other; one machine needs nothing."""
    if question.named and question.config.trainer.nnodes > 1:
        yield from network_lines(question.config, os.environ)


def network_lines(config: Config, environment: Mapping[str, str]) -> Iterator[Line]:
    """Of the launcher's variables in ``environment``: their number of machines, the token, rank 0's address and port."""
    launched = environment.get("PET_NNODES") or environment.get("NNODES")
    if launched not in (None, str(config.trainer.nnodes)):
        text = f"{given(config, NODES)}, and PET_NNODES={launched} are launched"
        yield Line("fail", "machines", text, f"{NODES}={launched}")
    if address := environment.get("RAY_ADDRESS"):
        if address.rpartition(":")[2].isdecimal() and "://" not in address:
            yield reach_line("Ray", address, "start that cluster, or unset RAY_ADDRESS")
        else:  # e.g. auto, which only Ray can look up
            yield Line("pass", "Ray", f"joins the cluster at RAY_ADDRESS={address}; --deep tries that")
        return
    yield token_line(Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"))
    master, port = environment.get("MASTER_ADDR"), environment.get("RAY_MASTER_PORT") or str(RAY_PORT)
    if not master:
        text = f"{given(config, NODES)}, and MASTER_ADDR is not set: rank 0 is not looked at"
        yield Line(
            "warn", "rank 0", text, "MASTER_ADDR=<name or address of rank 0>, as scripts/launch_cluster.sh needs it"
        )
        return
    if not port.isdecimal() or not 0 < int(port) < 65536 or int(port) in RAY_WORKERS:
        text = f"RAY_MASTER_PORT={port}: allowed: a port but for 10002 to 19999, which Ray's workers use"
        yield Line("fail", "rank 0", text, f"RAY_MASTER_PORT={RAY_PORT}")
        return
    yield rank_0_line(master, int(port))


def token_line(file: Path) -> Line:
    """Ray's token, which all machines share and nobody else may read."""
    if not file.is_file() or not file.stat().st_size:
        fix = f"ray get-auth-token --generate >/dev/null && chmod 600 {file}; then copy it to every machine"
        return Line("fail", "token", f"no Ray token in {file}", fix)
    if (mode := stat.S_IMODE(file.stat().st_mode)) not in (0o600, 0o400):
        return Line("fail", "token", f"{file} has mode {mode:o}, and others may read Ray's token", f"chmod 600 {file}")
    return Line("pass", "token", f"{file}: must be the same on every machine")


def rank_0_line(master: str, port: int) -> Line:
    """On rank 0, whether its port is free; elsewhere, whether it answers."""
    try:
        address = socket.gethostbyname(master)
    except OSError as error:
        return Line(
            "fail", "rank 0", f"MASTER_ADDR={master} has no address: {error}", "name it as this machine knows it"
        )
    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    if address not in own:
        return reach_line("rank 0", f"{address}:{port}", "start rank 0, or open the port to this machine", level="warn")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            text = f"port {port} of {address} cannot be used here: {error.strerror}"
            return Line("fail", "rank 0", text, "a free port with RAY_MASTER_PORT, the same on all machines")
    return Line("pass", "rank 0", f"this machine is {master}, and its port {port} is free")


def reach_line(about: str, address: str, fix: str, level: str = "fail") -> Line:
    """Whether something answers at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return Line("warn" if level == "warn" else "fail", about, f"{address} does not answer: {error}", fix)
    return Line("pass", about, f"{address} answers")
