"""Where the driver becomes the bottleneck of a large cluster.

``python -m benchmarks.driver`` measures three costs of SRPO with real Ray on this machine, on episodes that nobody simulates or
embeds: what the driver spends on an episode, what the shared queue spends on one, and how many bytes of one pass through the
driver. With these,
a discrete-event model of a cluster finds how busy its slots are: a slot takes an episode from the queue (one at a time), runs
it, and hands its summary to the driver (one at a time); a worker waits when too many summaries are unread. The driver's cost is
the CPU time of its process, in which Ray's threads work beside the loop: an upper bound of what an episode delays the next by.
"""

import argparse
import heapq
import itertools
import json
import os
import pickle
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from ray import cloudpickle

from benchmarks.common import RESULTS, print_table, write_result
from siirl.dag.graph import EpisodesFn, NodeOutput
from siirl.dag.pipelines import reward_episodes
from siirl.data.trajectory import Episode, EpisodeSpec, EpisodeSummary, Stored, Trajectory
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeQueue, EpisodeSource, task_of
from siirl.workers.ray_workers import UNREAD, stream_episodes
from siirl.workers.references import RayFuture, get_all
from siirl.workers.shared_queue import QueueHost, SharedQueue

CLUSTERS = (64, 256, 1024, 4096, 16384)
SLOTS_PER_WORKER = 16
EPISODES_PER_SLOT = 8
RESULTS_PER_EPISODE = 2
"""A summary and a trajectory."""
GROUP = 8
"""Episodes of one prompt, embedded together."""
EMBEDDING_DIM = 1408
"""V-JEPA 2 ViT-g's."""
END, READ, ASK = range(3)


class NoEpisodes:
    """A node worker whose episodes and embeddings take no time."""

    def run(
        self, queue: EpisodeSource, sampling: Sampling, keep: bool, after: int
    ) -> Iterator[EpisodeSummary | Trajectory]:
        """See `siirl.workers.node_worker.NodeWorker.run`."""
        held = None
        while spec := queue.take("slot", held):
            held = task_of(spec)
            summary = EpisodeSummary(spec, True, 100, 13, False, 1)
            yield summary
            nothing = np.zeros((1, 1), np.float32)
            yield Trajectory(
                summary, np.zeros((1, 1, 1, 1, 3), np.uint8), nothing, nothing, nothing, np.ones(1, np.int16), nothing
            )

    def embed(self, references: Sequence[Any]) -> list[Stored]:
        """See `siirl.workers.node_worker.NodeWorker.embed`."""
        return [Stored(ray.put(np.zeros(EMBEDDING_DIM, np.float32))) for _ in references]

    def call(self, function: EpisodesFn, episodes: Sequence[Episode]) -> NodeOutput:
        """See `siirl.workers.node_worker.NodeWorker.call`; every reward is the same."""
        assert ray.get([e.columns["embedding"].handle for e in episodes])[0].shape == (EMBEDDING_DIM,)
        return NodeOutput({"reward": [1.0] * len(episodes)})

    def take_all(self, queue: EpisodeSource) -> int:
        """Empty the queue; the number of episodes taken."""
        return sum(1 for _ in iter(lambda: queue.take("slot", None), None))


def main() -> None:
    """Measure, model, print and write ``results/driver.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=3, help="processes that feed the driver")
    given = parser.parse_args()
    ray.init(address="local", include_dashboard=False, num_cpus=max(given.workers + 1, os.cpu_count() or 1))
    costs = measure(given.episodes, given.workers)
    ray.shutdown()
    duration, spread = episode_seconds()
    rows = []
    for slots in CLUSTERS:
        wall = model(slots, duration, spread, costs["driver_s"], costs["queue_s"])
        speed = model(slots, duration, spread, 0.0, 0.0) / wall
        busy = slots * EPISODES_PER_SLOT * costs["driver_s"] / wall
        rows.append({"slots": slots, "wall_s": wall, "speed": speed, "driver_busy": busy})
    costs["episode_s"], costs["episode_spread"] = duration, spread
    costs["saturating_slots"] = int(duration / max(costs["driver_s"], costs["queue_s"]))
    report(costs, rows)


def specs_of(count: int) -> list[EpisodeSpec]:
    """Episodes as a run has them."""
    instruction = "pick up the black bowl between the plate and the ramekin and place it on the plate"
    return [
        EpisodeSpec("libero_spatial", i % 10, i % 50, instruction, 220, i // 8, i % 8, 2**31 + i, 2**62 + i)
        for i in range(count)
    ]


def measure(episodes: int, workers: int) -> dict[str, float]:
    """Seconds of the driver and of the queue per episode, saturated, and bytes through the driver per episode."""
    nodes = [ray.remote(NoEpisodes).options(num_cpus=1).remote() for _ in range(workers)]
    host: Any = ray.remote(QueueHost).options(num_cpus=0).remote()
    queue, specs = SharedQueue(host), specs_of(episodes)
    sampling = Sampling(True, 1.0)

    def stream(count: int) -> float:
        """CPU seconds of this process per episode, from the queue to the reward."""
        ray.get(host.fill.remote(specs[:count], {}))
        before = time.process_time()
        found = list(stream_episodes(nodes, queue, sampling, True, 0))
        assert len(found) == count
        groups = [found[i : i + GROUP] for i in range(0, count, GROUP)]
        embedders = itertools.cycle(nodes)
        waiting = [RayFuture((next(embedders).embed.remote([e.trajectory for e in group]),)) for group in groups]
        for group, future in zip(groups, waiting, strict=True):
            for episode, embedding in zip(group, future.result(), strict=True):
                episode.columns["embedding"] = embedding
        rows = [Episode(e.summary, None, e.columns) for e in found]
        assert len(RayFuture((nodes[0].call.remote(reward_episodes, rows),)).result().columns["reward"]) == count
        return (time.process_time() - before) / count

    stream(min(200, episodes))  # workers start, connections are made
    driver = stream(episodes)
    ray.get(host.fill.remote(specs, {}))
    began = time.perf_counter()
    get_all([node.take_all.remote(queue) for node in nodes])
    queue_s = (time.perf_counter() - began) / episodes
    return {"driver_s": driver, "queue_s": queue_s, "bytes_per_episode": bytes_per_episode(specs)}


def bytes_per_episode(specs: list[EpisodeSpec]) -> float:
    """What the driver sends and receives of an episode, serialised as Ray does."""
    count, few = len(specs), specs[: 8 * GROUP]
    # each summary comes on its own, so that none shares its texts with another
    summaries = [pickle.loads(pickle.dumps(EpisodeSummary(s, True, 100, 13, False, 1))) for s in few]  # noqa: S301
    references = [ray.put(0) for _ in few]
    rows = [Episode(s, None, {"embedding": Stored(r)}) for s, r in zip(summaries, references, strict=True)]

    def size(value: Any) -> float:
        return len(cloudpickle.dumps(value)) / len(few)

    passing = {
        "the queue: the episode": len(cloudpickle.dumps(EpisodeQueue(specs, {})._tasks)) / count,
        "the rollout: summary, trajectory's reference": sum(map(size, summaries)) + sum(map(size, references)),
        "the embedding: trajectory's reference in, embedding's out": size(references)
        + size(list(map(Stored, references))),
        "the reward: summary and embedding's reference in, reward out": size(rows) + size([1.0] * len(few)),
        "the update: trajectory's reference, chunks, advantage": size(references) + 8 + 4,
    }
    print_table("bytes through the driver, per episode", ["", ""], [[name, f"{n:.0f}"] for name, n in passing.items()])
    return sum(passing.values())


def episode_seconds() -> tuple[float, float]:
    """Mean and relative spread of an episode's seconds in one slot, from the committed rollout benchmark."""
    result = json.loads((RESULTS / "rollout.json").read_text())
    runs = result["runs"]
    steps = statistics.mean(run["env_steps"] / run["episodes"] for run in runs)
    per_core = result["medians"]["steps_per_s"] / result["environment"]["cores"]
    return steps / per_core, 0.4


def model(slots: int, duration: float, spread: float, driver_s: float, queue_s: float) -> float:
    """Seconds that ``slots`` slots take for `EPISODES_PER_SLOT` episodes each; with costs of 0, what the slots alone need."""
    lengths = itertools.cycle(np.random.default_rng(0).lognormal(np.log(duration), spread, 4096).tolist())
    workers = max(1, slots // SLOTS_PER_WORKER)
    unread, blocked = [0] * workers, [0] * workers
    events = [(0.0, ASK, slot % workers) for slot in range(slots)]
    queue_free = driver_free = now = 0.0
    left = slots * EPISODES_PER_SLOT
    while events:
        now, kind, worker = heapq.heappop(events)
        if kind == END:
            unread[worker] += 1
            driver_free = max(driver_free, now) + driver_s
            heapq.heappush(events, (driver_free, READ, worker))
        elif kind == READ:
            unread[worker] -= 1
        if kind == READ and not blocked[worker]:
            continue
        blocked[worker] -= kind == READ
        if unread[worker] > UNREAD // RESULTS_PER_EPISODE:  # the worker waits for the driver before it goes on
            blocked[worker] += 1
        elif left:
            left -= 1
            queue_free = max(queue_free, now) + queue_s
            heapq.heappush(events, (queue_free + next(lengths), END, worker))
    return now


def report(costs: dict[str, float], rows: list[dict[str, float]]) -> None:
    """The costs and the model's table, everything as JSON."""
    print_table(
        "the driver's costs",
        ["", ""],
        [
            ["driver, CPU per episode", f"{costs['driver_s'] * 1e3:.2f} ms"],
            ["shared queue, per episode", f"{costs['queue_s'] * 1e3:.2f} ms"],
            ["through the driver, per episode", f"{costs['bytes_per_episode']:.0f} bytes"],
            [f"slots that saturate it, at {costs['episode_s']:.1f} s an episode", str(costs["saturating_slots"])],
        ],
    )
    print_table(
        "modelled clusters",
        ["slots", "slowed down to", "driver busy"],
        [[row["slots"], f"{row['speed']:.3f}", f"{row['driver_busy']:.0%}"] for row in rows],
    )
    print(write_result("driver", {"costs": costs, "modelled": rows}))


if __name__ == "__main__":
    main()
