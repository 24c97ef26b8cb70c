"""Training on two hosts: with real LIBERO, the roles apart and side by side; with a toy, a cut link and a host that dies."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siirl.client.main_dag import main
from tests.cluster.hosts import Hosts
from tests.cluster.launches import IMPATIENT, Launch, Launcher, until
from tests.workers.runs import BY_SEED, ENV, EXACT, GENTLE, INLINE, TOY, assert_trained_alike, command_line, log_of

pytestmark = pytest.mark.timeout(420)

ONE_EACH = {"trainer.nnodes": 2, f"{ENV}.num_envs": 1}
APART = {"cluster.component_placement": "{env: 1, rollout: 1, actor: 0}"}
SIMULATORS_APART = {"cluster.component_placement": "{env: 1, rollout: 0, actor: 0}", f"{ENV}.step_timeout": 10}
TWO_STEPS = BY_SEED | EXACT | GENTLE | {"trainer.save_freq": 2}
ENDLESS = BY_SEED | {"trainer.total_training_steps": 500, "trainer.max_actor_ckpt_to_keep": 2}


def training(folder: Path, policy: Path, *settings: dict[str, Any], module: str = "siirl.client.main_dag") -> str:
    """The shell command of a training."""
    arguments = command_line(folder, policy, *settings)
    return shlex.join([sys.executable, "-m", module, *arguments])


def both(launcher: Launcher, command: str, **environment: str) -> list[Launch]:
    return [launcher.start(rank, ["bash", "-c", command], **environment) for rank in range(2)]


def test_roles_apart_and_side_by_side_train_as_one_process_does(
    launcher: Launcher, hosts: Hosts, policy: Path, tmp_path: Path
) -> None:
    apart, together, alone = (tmp_path / name for name in ("apart", "together", "alone"))
    commands = training(apart, policy, TWO_STEPS, ONE_EACH, APART), training(together, policy, TWO_STEPS, ONE_EACH)
    launches = both(launcher, " && ".join(commands))
    assert main(command_line(alone, policy, TWO_STEPS, INLINE)) == 0
    assert [launch.ends(300) for launch in launches] == [0, 0], [launch.said for launch in launches]
    assert_trained_alike(apart, alone, policy)
    assert_trained_alike(together, alone, policy)
    for folder, sends in ((apart, True), (together, False)):
        rows = log_of(folder)
        assert all(row["actor/rollout_train_logprob_diff"] < 1e-5 for row in rows)
        assert all((row["weight_sync/bytes"] > 0) == sends for row in rows)


@pytest.mark.parametrize("fault", ["cut link", "dead host"])
def test_a_lost_host_ends_the_run_with_its_reason_and_the_run_goes_on_elsewhere(
    fault: str, launcher: Launcher, hosts: Hosts, policy: Path, toy: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    layout = SIMULATORS_APART if fault == "dead host" else {}  # else a rank of the update is lost
    command = training(run, policy, TOY, ENDLESS, ONE_EACH, layout, module="tests.cluster.toy_training")
    first, second = both(launcher, command, LINK_TIMEOUT="5", **IMPATIENT)
    newest = run / "latest_checkpointed_iteration.txt"
    until(lambda: newest.exists() or first.process.poll() is not None, f"no checkpoint:\n{first.said}", 200)
    assert newest.exists(), first.said
    strike: dict[str, Callable[[], None]] = {"cut link": hosts.cut, "dead host": hosts[1].kill}
    strike[fault]()
    assert first.ends(120) == 1, first.said
    assert "a worker of the run, or its machine, is gone" in first.said
    assert "trainer.resume_mode=auto" in first.said
    assert second.ends(60) != 0
    if fault == "cut link":
        assert "rank 1 lost rank 0 without a goodbye" in second.said
    step = int(newest.read_text())
    assert main(command_line(run, policy, TOY, BY_SEED, INLINE, {"trainer.total_training_steps": step + 1})) == 0
    assert log_of(run)[-1]["step"] == step + 1
