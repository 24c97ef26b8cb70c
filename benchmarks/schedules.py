"""Continuous rollout beside the schedules of others: the same simulators in Ray, policy and episodes, measured in turns.

``python -m benchmarks.schedules`` measures with the shipped start policy after its calibration error was taken back, as late in a
training, when most episodes succeed, and nearly all of them with ``--greedy``; with ``--start-policy`` as it is shipped: most of
its episodes fail, after as many steps as they may take, so that there is little to gain.
"""

import argparse
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.common import print_table, write_result
from benchmarks.lock_step import EndlessLibero, LockStep, batches
from siirl.client.main_dag import manifests
from siirl.config.load import load_config
from siirl.config.schema import Config
from siirl.dag.compile import Process
from siirl.data.sampler import episode_specs
from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import POLICIES, Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from siirl.workers.env_worker import FAULT_TOLERANCE, EnvWorker, RayEnvPool
from siirl.workers.ray_workers import SIMULATOR_ENVIRONMENT

LONG = 512
"""``max_steps`` of the second comparison: as long as episodes of LIBERO run in siiRL's published settings."""

CALIBRATION = ("0", "0", "-0.015")
"""Metres that take the start policy's error back, see ``examples/start_policy/miscalibrate.py``."""

Row = dict[str, Any]


def main() -> None:
    """Measure, print and write ``results/schedules.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--greedy", action="store_true", help="actions are not sampled; writes results/schedules_greedy.json"
    )
    parser.add_argument(
        "--start-policy", action="store_true", help="with its error; writes results/schedules_start.json"
    )
    given = parser.parse_args()
    config = load_config("quickstart")
    config.actor_rollout_ref.rollout.do_sample = not given.greedy
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(shutil.copytree(config.actor_rollout_ref.model.path, f"{folder}/policy"))
        if not given.start_policy:
            script = "examples/start_policy/miscalibrate.py"
            subprocess.run([sys.executable, script, str(policy), *CALIBRATION], check=True)
        config.actor_rollout_ref.model.path = str(policy)
        specs = episode_specs(manifests(config)[0][: given.episodes], n=1, seed=0, step=1)
        name = "schedules" + "_start" * given.start_policy + "_greedy" * given.greedy
        print(write_result(name, compare(config, specs, given.episodes, given.repeats)))


class Simulator(EnvWorker):
    """A simulator process that knows how long it worked."""

    def __init__(self, config: Config) -> None:
        embodied = config.actor_rollout_ref.embodied
        self._env = EndlessLibero(embodied.env, wrist=embodied.num_images_in_input > 1)
        self._seconds = 0.0

    def reset(self, slots: list[int], specs: list[Any]) -> Any:
        """See `Env.reset`."""
        return self._timed(super().reset, slots, specs)

    def step(self, slots: list[int], actions: Any) -> Any:
        """See `Env.step`."""
        return self._timed(super().step, slots, actions)

    def seconds(self) -> float:
        """Seconds in `reset` and `step` since the start."""
        return self._seconds

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        result = call(*arguments)
        self._seconds += time.perf_counter() - began
        return result


class Comparison:
    """The simulators and the policy of all schedules. The policy acts in this process, with one thread, as in a node worker."""

    def __init__(self, config: Config) -> None:
        torch.set_num_threads(1)
        section = config.actor_rollout_ref
        env = section.embodied.env
        actor = ray.remote(Simulator).options(
            num_cpus=0, runtime_env={"env_vars": SIMULATOR_ENVIRONMENT}, **FAULT_TOLERANCE
        )
        self.simulators: list[Any] = [actor.remote(config) for _ in range(env.num_envs)]
        self.pool = RayEnvPool(self.simulators, [Process(1)] * env.num_envs, env.step_timeout)
        self.policy = POLICIES.get(section.embodied.embodied_type).load(
            section.model, section.embodied, torch.device("cpu")
        )
        self.sampling = Sampling.of(section.rollout)
        self.stages = section.rollout.pipeline_stage_num

    def close(self) -> None:
        """Stop the simulators."""
        for simulator in self.simulators:
            ray.kill(simulator)

    def continuous(self, specs: Sequence[EpisodeSpec]) -> Row:
        """Ours."""
        rollout = Rollout(self.policy, self.pool, self.stages)
        rollout.release(step=0, version=0)
        row, _ = self._measure(lambda: list(rollout.run(EpisodeQueue(specs), self.sampling, after=0)))
        stats = rollout.stats()
        return row | {
            "simulated_steps": row["steps"],
            "utilisation_while_waiting": _share(
                stats["busy_slot_seconds_while_waiting"], stats["slot_seconds_while_waiting"]
            ),
        }

    def lock_step(self, specs: Sequence[EpisodeSpec], to_max_steps: bool) -> Row:
        """Theirs, and what the lengths of the episodes allow to gain: slot-steps that its batches last over useful steps."""
        schedule = LockStep(self.policy, self.pool, to_max_steps)
        row, done = self._measure(lambda: schedule.run(specs, self.sampling))
        lengths = {t.summary.spec: t.summary.spec.max_steps if to_max_steps else t.summary.steps for t in done}
        slowest = [max(lengths[spec] for spec in batch) for batch in batches(specs, self.pool.num_slots)]
        slots = schedule.slots
        return row | {
            "simulated_steps": schedule.steps,
            "utilisation_while_waiting": _share(
                slots.busy_slot_seconds_while_waiting, slots.slot_seconds_while_waiting
            ),
            "allowed_gain": slots.num_slots * sum(slowest) / row["steps"],
        }

    def _measure(self, run: Callable[[], list[Trajectory]]) -> tuple[Row, list[Trajectory]]:
        worked, began = self._worked(), time.perf_counter()
        done = run()
        wall = time.perf_counter() - began
        steps = sum(t.summary.steps for t in done)
        return {
            "episodes": len(done),
            "successes": sum(t.summary.success for t in done),
            "steps": steps,
            "mean_steps": steps / len(done),
            "wall_s": wall,
            "steps_per_s": steps / wall,
            "simulators_work": (self._worked() - worked) / (wall * self.pool.num_slots),
        }, done

    def _worked(self) -> float:
        return sum(ray.get([simulator.seconds.remote() for simulator in self.simulators]))


def compare(config: Config, specs: list[EpisodeSpec], long_episodes: int, repeats: int) -> Row:
    """Measure all schedules at the config's ``max_steps``, and at `LONG` with the first few episodes."""
    comparison = Comparison(config)
    settings = {LONG: [replace(s, max_steps=LONG) for s in specs[:long_episodes]]} | {specs[0].max_steps: specs}
    rows = []
    try:
        comparison.continuous(
            [replace(s, max_steps=8) for s in specs[: config.actor_rollout_ref.embodied.env.num_envs]]
        )
        for _ in range(repeats):
            for episodes in settings.values():
                rows += _in_turn(comparison, episodes)
    finally:
        comparison.close()
    return {"gains": _report(rows), "runs": rows}


def _share(part: float, whole: float) -> float | None:
    """None where there is nothing to share: no episode had to wait."""
    return part / whole if whole else None


def _in_turn(comparison: Comparison, specs: list[EpisodeSpec]) -> list[Row]:
    """All schedules once: their rows, with the gain of the continuous one over each."""
    ours = comparison.continuous(specs) | {"schedule": "continuous"}
    rows = [
        ours,
        comparison.lock_step(specs, to_max_steps=False) | {"schedule": "lock-step"},
        comparison.lock_step(specs, to_max_steps=True) | {"schedule": "to max_steps"},
    ]
    for row in rows:
        row |= {"max_steps": specs[0].max_steps, "gain": ours["steps_per_s"] / row["steps_per_s"]}
        print(row, flush=True)
    return rows


def _report(rows: list[Row]) -> list[Row]:
    """Medians over the repeats, as a table and for the JSON."""
    columns = ("steps_per_s", "gain", "allowed_gain", "mean_steps", "utilisation_while_waiting", "simulators_work")
    medians = []
    for key in dict.fromkeys((row["max_steps"], row["schedule"]) for row in rows):
        same = [row for row in rows if (row["max_steps"], row["schedule"]) == key]
        known = {c: [row[c] for row in same if row.get(c) is not None] for c in columns}
        medians.append(
            {"max_steps": key[0], "schedule": key[1], "episodes": same[0]["episodes"]}
            | {column: statistics.median(values) for column, values in known.items() if values}
        )
    print_table(
        "schedules: useful steps per second; gain of the continuous one over each",
        ["max_steps", "schedule", "episodes", *columns],
        [
            [m["max_steps"], m["schedule"], m["episodes"], *(f"{m.get(c, math.nan):.2f}" for c in columns)]
            for m in medians
        ],
    )
    return medians


if __name__ == "__main__":
    main()
