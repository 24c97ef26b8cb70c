"""`launch_cluster.sh` on two hosts: who joins, how it ends, and that nothing is left."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cluster.hosts import INTERFACE, Hosts
from tests.cluster.launches import PROGRAM, Launch, Launcher, until

pytestmark = pytest.mark.timeout(240)


def program(out: Path, code: str) -> list[str]:
    return [sys.executable, str(PROGRAM), str(out), code]


def start_both(launcher: Launcher, out: Path, code: str, **environment: str) -> tuple[Launch, Launch]:
    """Both ranks, and the program at work."""
    first, second = (launcher.start(rank, program(out, code), **environment) for rank in range(2))
    until(lambda: out.exists() or first.process.poll() is not None, f"the program never ran:\n{first.said}", 120)
    assert out.exists(), first.said
    return first, second


def assert_nothing_is_left(hosts: Hosts) -> None:
    until(lambda: not any(host.processes() for host in hosts.hosts), "processes are left", 10)


def test_torchrun_launches_the_script_on_both_hosts(launcher: Launcher, hosts: Hosts, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--no-python"]
    launches = [
        launcher.start(
            rank,
            program(out, "0"),
            before=[*torchrun, f"--node-rank={rank}", f"--master-addr={hosts[0].address}", "--master-port=29511"],
            PET_NNODES="2",
            PET_NODE_RANK="",
        )
        for rank in range(2)
    ]
    assert [launch.ends(150) for launch in launches] == [0, 0], [launch.said for launch in launches]
    found = json.loads(out.read_text())
    for rank, host in enumerate(hosts.hosts):
        seen = found[str(rank)]
        assert seen.pop("network")
        assert seen == {"address": host.address, "GLOO_SOCKET_IFNAME": INTERFACE}, "no variable of torchrun reaches Ray"
    assert_nothing_is_left(hosts)


@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_ends_both_hosts_and_no_other_cluster(launcher: Launcher, hosts: Hosts, tmp_path: Path) -> None:
    import ray

    first, second = start_both(launcher, tmp_path / "out.json", "stay")
    for host in hosts.hosts:
        told = "\n".join(host.processes().values())
        assert launcher.token.read_text() not in told, "a secret on a command line is everybody's"
    os.killpg(first.process.pid, signal.SIGINT)
    codes = first.ends(), second.ends()
    assert codes[0] != 0
    assert codes[1] == codes[0]
    assert "KeyboardInterrupt" in first.said
    assert_nothing_is_left(hosts)
    assert ray.get(ray.remote(num_cpus=0)(lambda: "here").remote()) == "here", "the cluster of somebody else"


def test_a_machine_with_another_token_is_refused_and_missed(launcher: Launcher, hosts: Hosts, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("f" * 64)
    out = tmp_path / "out.json"
    first = launcher.start(0, program(out, "0"), CLUSTER_TIMEOUT="15")
    second = launcher.start(1, program(out, "0"), RAY_AUTH_TOKEN_PATH=str(other))
    assert second.ends() == 1
    assert "rank 0 refused Ray's token of rank 1: all machines need the same one" in second.said
    assert first.ends() == 1
    assert "after 15 s 1 of 2 machines have joined; missing ranks: 1" in first.said
    assert not out.exists()
    assert_nothing_is_left(hosts)
