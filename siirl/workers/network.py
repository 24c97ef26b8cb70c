"""How the processes of several machines find each other."""

from dataclasses import dataclass

import psutil
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout


@dataclass(frozen=True)
class Meeting:
    """Where ranks find each other: the address and port at which the first one listens."""

    address: str
    port: int

    def join(self) -> dist.Store:
        """The store of the first rank, seen from another."""
        return dist.TCPStore(self.address, self.port, timeout=default_pg_timeout)


def open_store(address: str) -> tuple[dist.Store, Meeting]:
    """A store in this process, and where the others join it. The system chooses a free port, which is this process's at once, so
    that no other can take it."""
    store = dist.TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=default_pg_timeout)
    return store, Meeting(address, store.port)


def interface_of(address: str) -> str:
    """The name of this machine's interface with ``address``, e.g. ``eth0``.

    Raises:
        ValueError: no interface has it.
    """
    found = {entry.address: name for name, entries in psutil.net_if_addrs().items() for entry in entries}
    if address not in found:
        raise ValueError(
            f"Ray reaches this machine at {address}, which is the address of none of its interfaces ({found}); "
            "start Ray with --node-ip-address, or name the interface with GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        )
    return found[address]
