"""Several machines: what the launcher's variables and Ray's token are checked for."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from siirl.client.doctor.lines import Line, Question
from siirl.client.doctor.network import check_network, network_lines
from siirl.config.schema import Config


def lines(**environment: str) -> dict[str, Line]:
    config = Config()
    config.trainer.nnodes = 2
    return {line.about: line for line in network_lines(config, environment)}


@pytest.fixture
def token(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o600)
    return str(file)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_one_machine_needs_nothing() -> None:
    assert list(check_network(Question(Config()))) == []
    assert list(check_network(Question(Config(), named=False))) == []


def test_the_token(token: str, tmp_path: Path) -> None:
    assert lines(RAY_AUTH_TOKEN_PATH=token)["token"].level == "pass"
    Path(token).chmod(0o644)
    line = lines(RAY_AUTH_TOKEN_PATH=token)["token"]
    assert (line.level, line.fix) == ("fail", f"chmod 600 {token}")
    line = lines(RAY_AUTH_TOKEN_PATH=str(tmp_path / "absent"))["token"]
    assert line.level == "fail"
    assert "ray get-auth-token --generate" in line.fix


def test_more_machines_launched_than_the_config_says(token: str) -> None:
    line = lines(RAY_AUTH_TOKEN_PATH=token, PET_NNODES="3")["machines"]
    assert (line.level, line.fix) == ("fail", "trainer.nnodes=3")
    assert "machines" not in lines(RAY_AUTH_TOKEN_PATH=token, NNODES="2")


def test_rank_0(token: str, listener: socket.socket) -> None:
    busy = str(listener.getsockname()[1])
    assert lines(RAY_AUTH_TOKEN_PATH=token)["rank 0"].level == "warn", "MASTER_ADDR is not set"
    line = lines(RAY_AUTH_TOKEN_PATH=token, MASTER_ADDR="localhost", RAY_MASTER_PORT=busy)["rank 0"]
    assert line.level == "fail"
    assert f"port {busy} of 127.0.0.1 cannot be used" in line.text
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = str(other.getsockname()[1])
    line = lines(RAY_AUTH_TOKEN_PATH=token, MASTER_ADDR="127.0.0.1", RAY_MASTER_PORT=free)["rank 0"]
    assert (line.level, line.text) == ("pass", f"this machine is 127.0.0.1, and its port {free} is free")
    for port in ("10500", "0", "ssh"):
        assert lines(RAY_AUTH_TOKEN_PATH=token, MASTER_ADDR="localhost", RAY_MASTER_PORT=port)["rank 0"].level == "fail"
    line = lines(RAY_AUTH_TOKEN_PATH=token, MASTER_ADDR="no-such-host.invalid")["rank 0"]
    assert (line.level, "has no address" in line.text) == ("fail", True)


def test_a_cluster_that_is_there_must_answer(listener: socket.socket) -> None:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert lines(RAY_ADDRESS=address)["Ray"].level == "pass"
    listener.close()
    assert lines(RAY_ADDRESS=address)["Ray"].level == "fail"


@pytest.mark.parametrize("address", ["auto", "ray://10.0.0.1:10001"])
def test_addresses_that_only_ray_can_look_up_are_left_to_it(address: str) -> None:
    line = lines(RAY_ADDRESS=address)["Ray"]
    assert (line.level, line.text) == ("pass", f"joins the cluster at RAY_ADDRESS={address}; --deep tries that")
