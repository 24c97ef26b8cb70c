"""Which network interface the processes of several machines reach each other through."""

import psutil


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
