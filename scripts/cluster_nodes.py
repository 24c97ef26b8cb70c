"""What `launch_cluster.sh` asks of the network and of a Ray cluster whose machines have a resource ``node_rank_<N>``.

``address MASTER`` prints this machine's address on the way to rank 0, and the network interface that has it.
``wait ADDRESS NODES SECONDS`` waits until the machines of all ranks are there.
``goodbye ADDRESS NODES CODE`` writes the exit code of the training to ``$SIIRL_GOODBYE`` on every machine but rank 0.
"""

import ipaddress
import os
import socket
import sys
import time
from pathlib import Path

GOODBYE_SECONDS = 20
"""How long a machine may take to start the goodbye's worker process."""

PREFIX = "node_rank_"


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case ["address", master]:
            print(*own_address(master))
        case ["wait", address, nodes, seconds]:
            wait(address, int(nodes), float(seconds))
        case ["goodbye", address, nodes, code]:
            goodbye(address, int(nodes), int(code))
        case _:
            sys.exit(__doc__)


def own_address(master: str) -> tuple[str, str]:
    """Address and interface of this machine: those of ``$NODE_IP``, else those from which packets to ``master`` go out."""
    import psutil

    address = os.environ.get("NODE_IP") or _address_towards(master)
    for interface, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return address, interface
    sys.exit(f"{address} is no address of this machine")


def _address_towards(master: str) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((master, 9))  # sends nothing, but chooses the route
            address: str = probe.getsockname()[0]
    except OSError as error:
        sys.exit(f"MASTER_ADDR={master}: {error}")
    if ipaddress.ip_address(address).is_loopback and not master.startswith("127.") and master != "localhost":
        sys.exit(
            f"MASTER_ADDR={master} is {address} here (/etc/hosts?), which other machines do not reach: "
            "give the address of rank 0 instead of its name, or this machine's in NODE_IP"
        )
    return address


def wait(address: str, nodes: int, seconds: float) -> None:
    """Wait until ``nodes`` machines have joined. Exits with a message that names who is missing after ``seconds``."""
    _connect(address)
    deadline = time.monotonic() + seconds
    while missing := sorted(set(range(nodes)) - _ranks()):
        if time.monotonic() > deadline:
            sys.exit(
                f"launch_cluster: error: after {seconds:g} s {nodes - len(missing)} of {nodes} machines have joined; "
                f"missing ranks: {_listed(missing)}. See what launch_cluster.sh says there"
            )
        time.sleep(0.5)
    print(f"launch_cluster: all {nodes} machines have joined", file=sys.stderr)


def goodbye(address: str, nodes: int, code: int) -> None:
    """Tell ranks 1 and up how the training ended. Exits with a message that names who was not reached."""
    import ray

    _connect(address)
    leave = ray.remote(num_cpus=0, max_retries=0)(_leave)
    told = {
        leave.options(resources={f"{PREFIX}{rank}": 0.001}).remote(code): rank for rank in sorted(_ranks()) if rank > 0
    }
    done, _ = ray.wait(list(told), num_returns=len(told), timeout=GOODBYE_SECONDS) if told else ([], [])
    missing = sorted(set(range(1, nodes)) - {told[reference] for reference in done})
    if missing:
        sys.exit(
            f"launch_cluster: ranks {_listed(missing)} were not told of the end: never there, gone, or cut off from here"
        )


def _leave(code: int) -> None:
    Path(os.environ["SIIRL_GOODBYE"]).write_text(f"{code}\n")


def _connect(address: str) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, configure_logging=False)


def _ranks() -> set[int]:
    """Ranks of the machines that are alive."""
    import ray

    names = {name for node in ray.nodes() if node["Alive"] for name in node["Resources"]}
    return {int(name.removeprefix(PREFIX)) for name in names if name.startswith(PREFIX)}


def _listed(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))


if __name__ == "__main__":
    main()
