"""What overlapping acting and simulating gains when both take about the same time.

``python -m benchmarks.pipelining`` runs the same real LIBERO episodes, in two simulators per core, with a policy on an emulated
accelerator: `DevicePolicy` adds a wait in which no core is used, for every row as long as makes acting for all slots take the
time that all of them need to simulate a chunk. (A larger policy on this machine's own cores would slow the simulators down, which
overlap cannot make up for.) Collocated, as others schedule it, all simulators wait while the policy acts for all, and the policy
waits while they simulate: at best overlap makes that twice as fast. The continuous rollout keeps both busy, with one batch of
whatever is ready, or with the slots split in two.
"""

import argparse
import os
import statistics
import time
from dataclasses import replace
from typing import Any

from benchmarks.common import print_table, write_result
from benchmarks.schedules import Comparison
from siirl.client.main_dag import manifests
from siirl.config.load import load_config
from siirl.data.sampler import episode_specs
from siirl.policies.base import ActionChunk, Policy, PolicyInputs, Sampling

CORES = os.cpu_count() or 1


class DevicePolicy:
    """A policy whose `act` takes ``seconds`` longer for each row, without a core."""

    def __init__(self, policy: Policy, seconds: float) -> None:
        self._policy, self.seconds = policy, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """See `Policy.act`."""
        time.sleep(self.seconds * len(sampling.seeds))
        return self._policy.act(inputs, sampling)


def main() -> None:
    """Measure, print and write ``results/pipelining.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    config = load_config("quickstart", [f"actor_rollout_ref.embodied.env.num_envs={2 * CORES}"])
    specs = episode_specs(manifests(config)[0][:1], n=given.episodes, seed=0, step=1)
    specs = [replace(spec, max_steps=80) for spec in specs]
    comparison = Comparison(config)
    try:
        slots = comparison.pool.num_slots
        comparison.continuous(specs[:slots])
        chunk_s = _chunk_seconds(comparison.continuous(specs), slots)
        comparison.policy = DevicePolicy(comparison.policy, chunk_s / slots)  # type: ignore[assignment]
        rows = [row for _ in range(given.repeats) for row in _in_turn(comparison, specs)]
    finally:
        comparison.close()
    report(chunk_s, rows)


def _chunk_seconds(row: dict[str, Any], slots: int) -> float:
    """Seconds that a simulator takes for a chunk while the others simulate too."""
    return row["simulators_work"] * row["wall_s"] * slots / (row["steps"] / 8)


def _in_turn(comparison: Comparison, specs: list[Any]) -> list[dict[str, Any]]:
    rows = [comparison.lock_step(specs, to_max_steps=False) | {"schedule": "collocated, in turn"}]
    for stages in (1, 2):
        comparison.stages = stages
        rows.append(comparison.continuous(specs) | {"schedule": f"continuous, pipeline_stage_num={stages}"})
    for row in rows:
        print(row, flush=True)
    return rows


def report(chunk_s: float, rows: list[dict[str, Any]]) -> None:
    """Medians, and the gain over the first schedule, as a table and as JSON."""
    names = list(dict.fromkeys(row["schedule"] for row in rows))
    speed = {n: statistics.median(row["steps_per_s"] for row in rows if row["schedule"] == n) for n in names}
    gains = {name: speed[name] / speed[names[0]] for name in names}
    print_table(
        f"acting for all slots takes {chunk_s * 1e3:.0f} ms, as simulating a chunk in all of them does",
        ["schedule", "env steps/s", "gain"],
        [[name, f"{speed[name]:.1f}", f"{gains[name]:.2f}"] for name in names],
    )
    print(write_result("pipelining", {"chunk_s": chunk_s, "steps_per_s": speed, "gains": gains, "runs": rows}))


if __name__ == "__main__":
    main()
