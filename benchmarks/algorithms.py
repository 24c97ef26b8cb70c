"""What the driver computes of a batch of episodes: advantages and the accuracy filter.

``python -m benchmarks.algorithms`` times them on one core, over 512 episodes of 64 chunks of 8 actions in groups of 8 unless told
otherwise, and writes ``results/algorithms.json``. ``total`` is GAE over chunks, GRPO and the filter, one after the other.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.common import print_table, write_result
from siirl.algorithms.base import ADVANTAGES, EpisodeReturns
from siirl.algorithms.filters import accuracy_filter
from siirl.config.schema import AlgorithmConfig

ACTIONS, GROUP = 8, 8


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=64, help="of the longest episode")
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    found = {name: timed(task, given.repeats) for name, task in tasks(given.episodes, given.chunks).items()}
    rows = [
        [name, *(f"{times[key]:.2f}" for key in ("median_ms", "p90_ms", "cpu_ms"))] for name, times in found.items()
    ]
    title = f"{given.episodes} episodes of up to {given.chunks} chunks of {ACTIONS} actions, ms"
    print_table(title, ["", "median", "p90", "CPU"], rows)
    print(write_result("algorithms", {"settings": vars(given) | {"actions": ACTIONS, "group": GROUP}, "times": found}))


def episodes(count: int, chunks: int, outputs: int) -> list[EpisodeReturns]:
    """Half of the episodes succeed, somewhere within their last half; the others last until the time limit."""
    rng = np.random.default_rng(0)
    batch = []
    for i in range(count):
        success = bool(rng.random() < 0.5)
        own = int(rng.integers(chunks // 2, chunks) + 1) if success else chunks
        executed = np.full(own, ACTIONS, np.int16)
        executed[-1] = rng.integers(1, ACTIONS + 1) if success else ACTIONS
        rewards = np.zeros((own, ACTIONS), np.float32)
        rewards[-1, executed[-1] - 1] = success
        values = rng.random((own + 1, outputs), np.float32)
        batch.append(EpisodeReturns(float(success), i // GROUP, rewards, executed, values, not success))
    return batch


def tasks(count: int, chunks: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    batch, with_actions = (episodes(count, chunks, outputs) for outputs in (1, ACTIONS))
    success = [np.array([bool(e.score) for e in batch[i : i + GROUP]]) for i in range(0, count, GROUP)]
    config, actions = AlgorithmConfig(gamma=0.99, lam=0.95), AlgorithmConfig(gamma=0.99, lam=0.95)
    actions.reward_type = "action_level"
    gae, grpo = (ADVANTAGES.get(name).function for name in ("gae", "grpo"))

    def kept() -> list[bool]:
        return [accuracy_filter(group, 0.1, 0.9) for group in success]

    named = {
        "total": lambda: (gae(batch, config), grpo(batch, config), kept()),
        "filter": kept,
        "gae, chunks": partial(gae, batch, config),
        "gae, actions": partial(gae, with_actions, actions),
    }
    others = ("grpo", "dr_grpo", "rloo", "reinforce_plus_plus")
    return named | {name: partial(ADVANTAGES.get(name).function, batch, config) for name in others}


def timed(task: Callable[[], object], repeats: int) -> dict[str, float]:
    """Wall time of a call, and the mean CPU time of all threads, in milliseconds."""
    task()
    times, cpu = [], time.process_time()
    for _ in range(repeats):
        began = time.perf_counter()
        task()
        times.append(1e3 * (time.perf_counter() - began))
    cpu = 1e3 * (time.process_time() - cpu) / repeats
    return {"median_ms": statistics.median(times), "p90_ms": statistics.quantiles(times, n=10)[-1], "cpu_ms": cpu}


if __name__ == "__main__":
    main()
