"""How fast the rollout is beside what the simulators alone can do on the same cores.

``python -m benchmarks.rollout`` runs the quickstart's episodes through Ray, then lets one bare
process per core execute the very same actions in the same episodes without Ray and without a policy. The floor counts
their physics and one frame per chunk. Both are repeated in turns, because the machine's speed drifts. Steps after an
episode's end are what the simulators' own counters say beyond the episodes' lengths and settling.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.common import print_table, write_result
from siirl.client.main_dag import manifests
from siirl.config.load import load_config
from siirl.config.schema import Config, EnvConfig
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.data.sampler import episode_specs
from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import POLICIES, Sampling
from siirl.workers.ray_workers import SIMULATOR_ENVIRONMENT, RayWorkers

CORES = os.cpu_count() or 1
Replay = tuple[EpisodeSpec, list[np.ndarray]]


def main() -> None:
    """Measure, print and write ``results/rollout.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8, help="prompts; each is rolled out rollout.n times")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    config = load_config("quickstart", given.overrides)
    specs = episode_specs(_prompts(config, given.prompts), n=config.actor_rollout_ref.rollout.n, seed=0, step=1)
    workers = RayWorkers(config, compile_plan(build_graph(config), config))
    workers.sync(0)
    sampling = Sampling.of(config.actor_rollout_ref.rollout)
    warm_up = specs[: 2 * config.actor_rollout_ref.embodied.env.num_envs]
    roll_out(workers, config, warm_up, sampling)  # builds the simulators
    rows = []
    for _ in range(given.repeats):
        measured, trajectories = roll_out(workers, config, specs, sampling)
        rows.append(measured | floor(config, trajectories))
        rows[-1]["ratio"] = rows[-1]["steps_per_s_without_policy"] / rows[-1]["floor_steps_per_s"]
        print(rows[-1], flush=True)
    workers.close()
    print(write_result("rollout", report(config, rows)))


def _prompts(config: Config, count: int) -> list:
    """``count`` prompts, all of the first task: switching tasks rebuilds a simulator, which is not what is measured."""
    prompts = manifests(config)[0]
    return [p for p in prompts if p.task_id == prompts[0].task_id][:count]


def roll_out(
    workers: RayWorkers, config: Config, specs: list[EpisodeSpec], sampling: Sampling
) -> tuple[dict[str, Any], list[Trajectory]]:
    """Run episodes: what that took, and what they left behind."""
    acting, simulated = _seconds_acting(workers), _simulated_steps(workers)
    began = time.perf_counter()
    episodes = list(workers.rollout(specs, sampling, keep=True, after=0, expected_steps={}))
    wall = time.perf_counter() - began
    acting = _seconds_acting(workers) - acting
    simulated = _simulated_steps(workers) - simulated
    trajectories = ray.get([e.trajectory for e in episodes])
    steps = sum(t.summary.steps for t in trajectories)
    needed = steps + len(episodes) * config.actor_rollout_ref.embodied.env.num_steps_wait
    return {
        "episodes": len(episodes),
        "env_steps": steps,
        "steps_after_the_end": simulated - needed,
        "wall_s": wall,
        "acting_s": acting,
        "steps_per_s": steps / wall,
        # acting keeps one core busy, so it takes its share of what all cores could have simulated
        "steps_per_s_without_policy": steps / (wall - acting / CORES),
    }, trajectories


def _seconds_acting(workers: RayWorkers) -> float:
    return sum(stats["seconds_acting"] for stats in workers.stats())


def _simulated_steps(workers: RayWorkers) -> int:
    """Control steps that the simulators have really done since they were built, settling included."""

    def steps(worker: Any) -> int:
        simulator = worker._env._simulator  # None until the first reset
        return simulator.steps if simulator else 0

    return sum(ray.get([env.__ray_call__.remote(steps) for env in workers.envs]))


def floor(config: Config, trajectories: list[Trajectory]) -> dict[str, float]:
    """Env steps per second of bare simulators, summed over processes, executing the same actions."""
    section = config.actor_rollout_ref
    policy = POLICIES.get(section.embodied.embodied_type).load(section.model, section.embodied, torch.device("cpu"))
    replays: list[Replay] = []
    for t in trajectories:
        chunks = policy.decode(_tensor(t.tokens)).numpy()
        replays.append((t.summary.spec, list(chunks)))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(CORES), context.Queue()
    processes = [
        context.Process(target=_replay, args=(section.embodied.env, replays[i::CORES], barrier, results))
        for i in range(CORES)
    ]
    for process in processes:
        process.start()
    parts = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return {
        "floor_steps_per_s": sum(steps / stepping for steps, stepping, _ in parts),
        "floor_with_resets_steps_per_s": sum(steps / total for steps, _, total in parts),
    }


def _tensor(tokens: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tokens.astype(np.int64))


def _replay(env_config: EnvConfig, replays: list[Replay], barrier: Any, results: Any) -> None:
    """Execute episodes in this process: (steps, seconds in steps and frames, seconds in all)."""
    os.environ.update(SIMULATOR_ENVIRONMENT)
    from siirl.envs.base import ENVS

    env = ENVS.get(env_config.env_type)(env_config)
    env.reset([0], [replays[0][0]])  # builds the simulator
    barrier.wait()
    steps, stepping, began = 0, 0.0, time.perf_counter()
    for spec, chunks in replays:
        env.reset([0], [spec])
        for chunk in chunks:
            before = time.perf_counter()
            result = env.step([0], chunk[None])
            stepping += time.perf_counter() - before
            steps += int(result.executed[0])
    results.put((steps, stepping, time.perf_counter() - began))
    env.close()


def report(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians as a table, and everything that goes into the JSON."""
    keys = ["steps_per_s", "steps_per_s_without_policy", "floor_with_resets_steps_per_s", "floor_steps_per_s", "ratio"]
    medians = {key: statistics.median(row[key] for row in rows) for key in keys}
    after_end = sum(row["steps_after_the_end"] for row in rows)
    print_table(
        "rollout, env steps per second",
        ["", "median"],
        [
            ["rollout", f"{medians['steps_per_s']:.1f}"],
            ["rollout, policy's core time counted out", f"{medians['steps_per_s_without_policy']:.1f}"],
            ["simulators alone, with resets", f"{medians['floor_with_resets_steps_per_s']:.1f}"],
            ["floor: physics + one frame per chunk", f"{medians['floor_steps_per_s']:.1f}"],
            ["ratio to the floor", f"{medians['ratio']:.2f}"],
            ["steps after an episode's end", after_end],
        ],
    )
    env = config.actor_rollout_ref.embodied.env
    return {"num_envs": env.num_envs, "medians": medians, "runs": rows}


if __name__ == "__main__":
    main()
