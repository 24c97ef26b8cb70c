"""Which network interface the processes of several machines reach each other through."""

import fcntl
import socket
import struct

SIOCGIFADDR = 0x8915  # Linux: the address of an interface


def interface_of(address: str) -> str:
    """The name of this machine's interface with the IPv4 ``address``, e.g. ``eth0``.

    Raises:
        ValueError: no interface has it.
    """
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                answer = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, request)
            except OSError:  # an interface without an IPv4 address
                continue
            found[socket.inet_ntoa(answer[20:24])] = name
    if address not in found:
        raise ValueError(
            f"Ray reaches this machine at {address}, which is the address of none of its interfaces ({found}); "
            "start Ray with --node-ip-address, or name the interface with GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        )
    return found[address]
