"""What each placement costs and gains, on the CPU slots of one machine.

``python -m benchmarks.placement`` trains the shipped policy on real LIBERO with every layout of ``docs/placement.md``, scaled to
the slots of one machine, from the same seeds, and reports seconds per training step, where they went, and the bytes of weights
that were sent. All layouts share this machine's cores, so that the differences are those of schedule and transport alone: a
layout that is better on several machines is not better here.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import print_table, write_result
from siirl.client.main_dag import main as train

PLACE = "cluster.component_placement"
SLOTS = "cluster.num_cpu_slots_per_node"
LAYOUTS: dict[str, list[str]] = {
    "one slot": [],
    "collocated, 2 slots": [f"{SLOTS}=2"],
    "disaggregated, 1 + 1": [f"{SLOTS}=2", f"{PLACE}={{env: 0, rollout: 0, actor: 1}}"],
    "disaggregated, a step behind": [
        f"{SLOTS}=2",
        f"{PLACE}={{env: 0, rollout: 0, actor: 1}}",
        "trainer.max_staleness=1",
    ],
    "hybrid, 1 + 1 + 2": [f"{SLOTS}=2", f"{PLACE}={{env: 0, rollout: 1, actor: all}}"],
}
COMMON = [
    "actor_rollout_ref.embodied.env.num_holdout_trials=0",
    "actor_rollout_ref.embodied.env.task_ids=[0]",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
    "data.train_batch_size=2",
    "algorithm.embodied_sampling.filter_accuracy=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
    "trainer.val_before_train=false",
    "trainer.logger=[]",
]
TIMES = ("time/step", "time/rollout", "time/update", "time/weight_sync")


def main() -> None:
    """Measure, print and write ``results/placement.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=3, help="training steps; the first one, which builds simulators, is left out"
    )
    parser.add_argument("--simulators", type=int, default=2, help="of the whole cluster")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    rows = []
    for name, layout in LAYOUTS.items():
        rollouts = 2 if name.startswith("collocated") else 1
        slots = f"actor_rollout_ref.embodied.env.num_envs={given.simulators // rollouts}"
        rows.append({"layout": name} | measure([*layout, slots, *given.overrides], given.steps))
        print(rows[-1], flush=True)
    report(rows)


def measure(settings: list[str], steps: int) -> dict[str, Any]:
    """Medians over the steps but the first."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"data.{part}_files={folder}/{part}.parquet" for part in ("train", "val")]
        run = [f"trainer.default_local_dir={folder}", f"trainer.total_training_steps={steps}"]
        assert train(["--config-name=quickstart", *files, *run, *COMMON, *settings]) == 0
        log = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()][1:]
    names = [
        *TIMES,
        "weight_sync/bytes",
        "rollout/episode_length",
        "rollout/success_rate",
        "actor/rollout_train_logprob_diff",
    ]
    return {name: statistics.median(row[name] for row in log) for name in names}


def report(rows: list[dict[str, Any]]) -> None:
    """The table, with the step's time beside that of one slot, everything as JSON."""
    alone = rows[0]["time/step"]
    print_table(
        "a training step by placement",
        ["layout", "s per step", "of one slot", "rollout, s", "update, s", "weights sent, MB", "sending, s"],
        [
            [
                row["layout"],
                f"{row['time/step']:.1f}",
                f"{row['time/step'] / alone:.2f}",
                f"{row['time/rollout']:.1f}",
                f"{row['time/update']:.1f}",
                f"{row['weight_sync/bytes'] / 1e6:.1f}",
                f"{row['time/weight_sync']:.2f}",
            ]
            for row in rows
        ],
    )
    print(write_result("placement", {"layouts": rows}))


if __name__ == "__main__":
    main()
