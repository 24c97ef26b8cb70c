"""The Slurm script on two hosts, and the Kubernetes manifest."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import __version__ as ray_version

from tests.cluster.hosts import Hosts
from tests.cluster.launches import PROGRAM, REPOSITORY, SCRIPT, Launcher

FOLDER = REPOSITORY / "examples" / "cluster"

SRUN = """#!/usr/bin/env bash
# srun as the script uses it: one task per machine, on the hosts of the test; the worst exit code
while [[ $1 == --* ]]; do shift; done
worst=0
for number in 0 1; do
    SLURM_NODEID=$number ip netns exec "{name}-$number" "$@" &
    tasks[number]=$!
done
for task in "${{tasks[@]}}"; do
    code=0; wait "$task" || code=$?
    ((code > worst)) && worst=$code
done
exit "$worst"
"""


def slurm(launcher: Launcher, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the script as Slurm's batch step does, in ``folder``."""
    tools = folder / "tools"
    tools.mkdir()
    name = launcher.hosts[0].name.rpartition("-")[0]
    (tools / "srun").write_text(SRUN.format(name=name))
    (tools / "scontrol").write_text("#!/bin/sh\nprintf '%s\\n' 10.77.0.1 10.77.0.2\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = launcher.environment(0)
    for variable in ("PET_NNODES", "PET_NODE_RANK", "MASTER_ADDR", "RAY_AUTH_TOKEN_PATH"):
        del environment[variable]
    job = {"SLURM_JOB_ID": "70007", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
    environment |= job | {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(FOLDER / "slurm.sh"), *command],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(240)
def test_the_slurm_script_ends_with_the_code_of_the_training(launcher: Launcher, hosts: Hosts, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    job = tmp_path / "job"
    job.mkdir()
    done = slurm(launcher, job, str(SCRIPT), launcher.environment(0)["PYTHON"], str(PROGRAM), str(out), "3")
    assert done.returncode == 3, done.stderr
    assert "rank 0 ends with code 3" in done.stderr
    assert "rank 1 ends with code 3" in done.stderr
    assert [json.loads(out.read_text())[rank]["address"] for rank in "01"] == ["10.77.0.1", "10.77.0.2"]
    assert not list(job.glob(".ray_token*")), "the token goes with the job"
    assert not any(host.processes() for host in hosts.hosts)


def test_the_slurm_script_asks_for_one_task_on_each_machine() -> None:
    options = re.findall(r"^#SBATCH (\S+)", (FOLDER / "slurm.sh").read_text(), re.MULTILINE)
    assert "--ntasks-per-node=1" in options
    assert "--nodes=2" in options


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """The RayJob."""
    (job,) = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    assert isinstance(job, dict)
    return job


def test_the_manifest_has_what_the_crd_requires(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= set(group)


def test_the_manifest_gives_each_machine_its_rank_and_all_one_secret(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    ranks = [json.loads(json.loads(group["rayStartParams"]["resources"])) for group in groups]
    assert ranks == [{"node_rank_0": 1}, {"node_rank_1": 1}]
    variables = {item["name"]: item["value"] for item in groups[0]["template"]["spec"]["containers"][0]["env"]}
    assert variables["PET_NNODES"] == str(len(groups))
    assert cluster["authOptions"] == {"mode": "token", "secretName": "siirl-ray-token"}
    assert "auth_token:" not in (FOLDER / "kuberay.yaml").read_text()
    assert cluster["rayVersion"].split(".")[0] == ray_version.split(".")[0]


def test_the_manifest_runs_a_script_of_the_image(manifest: dict[str, Any]) -> None:
    _, script = manifest["spec"]["entrypoint"].split()
    assert (REPOSITORY / Path(script).relative_to("/siirl")).is_file()
