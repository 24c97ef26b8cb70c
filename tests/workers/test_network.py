"""The interface that has an address."""

import pytest

from siirl.workers.network import interface_of


def test_the_interface_of_an_address_and_none_of_an_unknown_one() -> None:
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(ValueError, match=r"Ray reaches this machine at 203\.0\.113\.9, .* --node-ip-address"):
        interface_of("203.0.113.9")
