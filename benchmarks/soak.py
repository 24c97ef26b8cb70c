"""Whether memory stays flat over many training steps.

``python -m benchmarks.soak`` trains a tiny policy in a simulator that costs nothing, through Ray, and notes the anonymous memory
of every process of the run and what the object store holds after each step. The slope of a straight line through the second half,
when caches and allocators are warm, is given with its standard error: a leak is a slope well above it.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.common import memory_status, print_table, write_result
from siirl.dag.run import train
from tests.policies.tiny import tiny_policy_folder
from tests.workers import toy
from tests.workers.runs import BY_SEED, ENV, TOY, command_line, configured, opened

Samples = dict[str, list[float]]


def main() -> None:
    """Measure, print and write ``results/soak.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = soak(Path(folder), given.steps)
    rows = {name: trend(values) for name, values in samples.items()}
    print_table(
        f"memory over {given.steps} steps, MiB",
        ["", "at the start", "at the end", "slope per step in the second half"],
        [
            [n, f"{r['first']:.1f}", f"{r['last']:.1f}", f"{r['slope']:+.4f} ± {r['error']:.4f}"]
            for n, r in rows.items()
        ],
    )
    print(write_result("soak", {"steps": given.steps, "mib": rows}))


def soak(folder: Path, steps: int) -> Samples:
    """Memory after each step, MiB, by process and in the object store."""
    faults = folder / "faults"
    faults.mkdir()
    os.environ[toy.FAULTS] = str(faults)
    hook = {"env_vars": {toy.FAULTS: str(faults)}, "worker_process_setup_hook": "tests.workers.toy.register"}
    ray.init(address="local", num_cpus=4, include_dashboard=False, configure_logging=False, runtime_env=hook)
    endless = {"trainer.total_training_steps": steps, "trainer.save_freq": steps // 4, f"{ENV}.num_envs": 2}
    endless[f"{ENV}.image_size"] = 256  # large enough for trajectories to go to the object store
    config = configured(command_line(folder / "run", tiny_policy_folder(folder), TOY, BY_SEED, endless))
    with opened(config) as (session, executor, workers):
        processes = {"driver": os.getpid()}
        for number, node in enumerate(workers.nodes):
            processes[f"node worker {number}"] = ray.get(node.__ray_call__.remote(lambda worker: os.getpid()))
        for number, env in enumerate(workers.envs):
            processes[f"simulator {number}"] = ray.get(env.pid.remote())
        samples: Samples = {name: [] for name in (*processes, "object store")}
        end_step = session.end_step

        def note(metrics: dict[str, Any]) -> None:
            end_step(metrics)
            for name, process in processes.items():
                samples[name].append(memory_status(process)["RssAnon"] * 1024)
            samples["object store"].append(shutil.disk_usage("/dev/shm").used / 2**20)

        session.end_step = note
        train(config, session, executor)
    ray.shutdown()
    return samples


def trend(values: list[float]) -> dict[str, float]:
    """First and last value, and the slope of the second half with its standard error."""
    half = np.array(values[len(values) // 2 :])
    time = np.arange(len(half)) - (len(half) - 1) / 2
    slope = float(time @ half / (time @ time))
    residual = half - half.mean() - slope * time
    error = float(np.sqrt(residual @ residual / (len(half) - 2) / (time @ time)))
    return {"first": values[0], "last": statistics.mean(values[-5:]), "slope": slope, "error": error}


if __name__ == "__main__":
    main()
