"""The placements of the documents, slot for slot, on CPU slots of one machine: that each runs, and trains as one slot does.

``python -m benchmarks.documented`` trains a tiny policy in a simulator that costs nothing with each of them, in two steps, and
compares the weights with those of a run on one slot: the gap, as a part of what was learned. Ranks add up their gradients in
another order, and AdamW makes full steps of gradients that are 0 but for rounding, so that it is not exactly 0.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from benchmarks.common import print_table, write_result
from siirl.client.main_dag import main as train
from tests.policies.tiny import tiny_policy_folder
from tests.workers import toy
from tests.workers.runs import BY_SEED, ENV, EXACT, GENTLE, TOY, command_line, learning_gap, weights_of

SLOTS, PLACE = "cluster.num_cpu_slots_per_node", "cluster.component_placement"
DOCUMENTED: dict[str, dict[str, Any]] = {
    "one slot": {},
    "collocated: env,rollout,actor: all of 8": {SLOTS: 8, PLACE: "{env\\,rollout\\,actor: all}"},
    "disaggregated: env 0-3, rollout 4-7, actor 8-15": {SLOTS: 32, PLACE: "{env: 0-3, rollout: 4-7, actor: 8-15}"},
    "hybrid: env 0-7, rollout 8-15, actor 0-15": {SLOTS: 16, PLACE: "{env: 0-7, rollout: 8-15, actor: 0-15}"},
}
SETTINGS = {"trainer.save_freq": 2, f"{ENV}.num_envs": 1, "actor_rollout_ref.rollout.n": 4, "data.train_batch_size": 4}


def main() -> None:
    """Train, compare, print and write ``results/documented.json``."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = trained(Path(name))
    print_table(
        "the documents' placements on CPU slots",
        ["placement", "node workers", "gap to one slot", "weights sent per step, MB", "seconds"],
        [
            [r["placement"], r["node_workers"], f"{r['gap']:.1e}", f"{r['sent'] / 1e6:.2f}", f"{r['seconds']:.0f}"]
            for r in rows
        ],
    )
    print(write_result("documented", {"placements": rows}))


def trained(folder: Path) -> list[dict[str, Any]]:
    """One row per placement."""
    faults, policy = folder / "faults", tiny_policy_folder(folder)
    faults.mkdir()
    os.environ[toy.FAULTS] = str(faults)
    hook = {"env_vars": {toy.FAULTS: str(faults)}, "worker_process_setup_hook": "tests.workers.toy.register"}
    ray.init(address="local", num_cpus=32, include_dashboard=False, configure_logging=False, runtime_env=hook)
    rows: list[dict[str, Any]] = []
    for number, (placement, settings) in enumerate(DOCUMENTED.items()):
        run, began = folder / f"run{number}", time.perf_counter()
        assert train(command_line(run, policy, TOY, EXACT, BY_SEED, GENTLE, SETTINGS, settings)) == 0
        log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows.append(
            {
                "placement": placement,
                "node_workers": {0: 1, 1: 8, 2: 12, 3: 16}[number],
                "gap": learning_gap(weights_of(run, 2), weights_of(folder / "run0", 2), policy),
                "sent": log[-1]["weight_sync/bytes"],
                "rollout_train_logprob_diff": max(row["actor/rollout_train_logprob_diff"] for row in log),
                "seconds": time.perf_counter() - began,
            }
        )
        print(rows[-1], flush=True)
    ray.shutdown()
    return rows


if __name__ == "__main__":
    main()
