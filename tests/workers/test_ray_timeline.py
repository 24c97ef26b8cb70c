"""The timeline of a run on Ray: processes of their own, noted by themselves, on one clock."""

import json
from pathlib import Path

import numpy as np
import pytest

from siirl.client.main_dag import main
from siirl.observe.report.gantt import read_step
from tests.workers.runs import ENV, TOY, command_line, log_of

pytestmark = pytest.mark.usefixtures("ray_cluster")

CHUNK_SECONDS = 0.05
"""What the suite ``toy_slow`` takes for each."""


def test_each_process_of_a_cluster_has_its_lanes(policy: Path, tmp_path: Path) -> None:
    slow = {f"{ENV}.env_name": "toy_slow", f"{ENV}.num_envs": 2, "cluster.num_cpu_slots_per_node": 2}
    once = {"algorithm.reward": "srpo", "data.train_batch_size": 4, "trainer.total_training_steps": 1}
    assert main(command_line(tmp_path, policy, TOY, slow, once)) == 0
    (row,) = map(json.loads, (tmp_path / "timeline.jsonl").read_text().splitlines())
    step = read_step(row)
    lanes = {lane.name: lane for lane in step.lanes}
    for slot in (0, 1):
        for name in ("simulator 0", "simulator 1", "policy", "actor", "weights"):
            assert f"slot {slot} · {name}" in lanes
    assert sum(len(lane.events["embed"]) for lane in step.role("embedding")) >= 1
    simulated = np.concatenate([lane.events["sim"] for lane in step.role("simulator")])
    assert (np.diff(simulated, axis=1) >= CHUNK_SECONDS - 0.001).all(), "as the simulator's own process measured it"
    driver, update = lanes["driver"], [lane.events["update"] for lane in step.role("actor")]
    (begin, end) = driver.events["update"][0]
    for ((first, last),) in update:
        assert begin - 0.01 <= first <= last <= end + 0.01, "the update lies within what the driver waited for it"
    assert driver.total("rollout") == pytest.approx(log_of(tmp_path)[0]["time/rollout"], abs=0.1)
