"""How ranks find each other."""

import socket

import pytest

from siirl.workers.network import interface_of, open_store


def test_a_store_has_its_port_from_the_start() -> None:
    store, meeting = open_store("127.0.0.1")
    with pytest.raises(OSError, match="in use"):
        socket.create_server((meeting.address, meeting.port))
    meeting.join().set("from", "elsewhere")
    assert store.get("from") == b"elsewhere"


def test_the_interface_of_an_address_and_none_of_an_unknown_one() -> None:
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(ValueError, match=r"Ray reaches this machine at 203\.0\.113\.9, .* --node-ip-address"):
        interface_of("203.0.113.9")
