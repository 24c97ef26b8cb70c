"""What videos and trackers cost the rollout.

``python -m benchmarks.observing`` rolls the same episodes of the quickstart out through Ray, with and without them in turns,
because the machine's speed drifts; `trainer.deterministic` makes the episodes bit for bit the same. With them, videos are drawn
with text, encoded and written as in a training step, and each tracker gets a row of 40 metrics for every episode, where a
training step has one. Trackers whose package is not installed are left out; the others record offline, in processes that are
started before the clock. Beside the ratios of times and of core seconds, which the machine's other work blurs by some percent:
the share that can be told apart, which is what trackers' processes, the calls that log and a video of every episode, drawn and
encoded alone, need of cores, beside the rollout's.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.common import print_table, write_result
from siirl.client.main_dag import manifests
from siirl.config.load import load_config
from siirl.config.schema import Config, VideoConfig
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.data.sampler import episode_specs
from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.observe.trackers.base import Tracker
from siirl.observe.trackers.make import make_trackers, missing_packages
from siirl.observe.video.drawing import frames
from siirl.observe.video.encoding import encode
from siirl.observe.video.shelf import Shelf
from siirl.policies.base import Sampling
from siirl.workers.ray_workers import RayWorkers

TRACKERS = ("tensorboard", "wandb", "swanlab", "trackio")
ROW = {f"group/metric_{i}": i / 7 for i in range(40)}
SETTLE_SECONDS = 8.0
"""In which the trackers' processes begin their runs."""
VIDEO = VideoConfig(save_video=True, info_on_video=True)


def main() -> None:
    """Measure, print and write ``results/observing.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--prompts", type=int, default=4, help="prompts of one task; each is rolled out rollout.n times"
    )
    parser.add_argument("--repeats", type=int, default=4, help="pairs of rollouts")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    config = load_config("quickstart", ["trainer.deterministic=true", *given.overrides])
    config.trainer.logger = installed(config)
    offline()
    prompts = manifests(config)[0]
    of_one_task = [p for p in prompts if p.task_id == prompts[0].task_id][: given.prompts]
    specs = episode_specs(of_one_task, n=config.actor_rollout_ref.rollout.n, seed=0, step=1)
    workers = RayWorkers(config, compile_plan(build_graph(config), config))
    try:
        workers.sync(0)
        roll_out(workers, config, specs[: 2 * config.actor_rollout_ref.embodied.env.num_envs])  # builds the simulators
        pairs = [pair(workers, config, specs, number) for number in range(given.repeats)]
        alone = video_seconds(workers, config, specs[:4])
    finally:
        workers.close()
    report(config, pairs, alone, logging_seconds(config, len(specs)))


def installed(config: Config) -> list[str]:
    """The trackers that can be had here."""
    found = []
    for name in TRACKERS:
        config.trainer.logger = [name]
        if not list(missing_packages(config)):
            found.append(name)
    return found


def offline() -> None:
    """No tracker speaks to anybody."""
    os.environ |= {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline", "TRACKIO_DIR": tempfile.mkdtemp()}


def pair(workers: RayWorkers, config: Config, specs: list[EpisodeSpec], number: int) -> dict[str, Any]:
    """The same episodes with and without; which comes first changes."""
    row: dict[str, Any] = {}
    for kind in ("plain", "observed")[:: 1 if number % 2 == 0 else -1]:
        if kind == "plain":
            row["plain_s"], row["plain_core_s"], steps = roll_out(workers, config, specs)
        else:
            before = set(psutil.Process().children(recursive=True))
            with observers(config) as (shelf, trackers):
                servants = set(psutil.Process().children(recursive=True)) - before
                began = core_seconds(servants)
                row["observed_s"], row["observed_core_s"], steps = roll_out(
                    workers, config, specs, shelf, trackers, step=number + 1
                )
                row["trackers_core_s"] = core_seconds(servants) - began
                shelf.close()
                row["videos"] = len(list(shelf.folder.rglob("*.mp4")))
        row["episodes"] = len(specs)
        assert row.setdefault("steps", steps) == steps, "the episodes are the same"
    row["ratio"] = row["observed_s"] / row["plain_s"]
    row["core_ratio"] = row["observed_core_s"] / row["plain_core_s"]
    print(row, flush=True)
    return row


@contextmanager
def observers(config: Config) -> Iterator[tuple[Shelf, list[Tracker]]]:
    """A shelf for videos, and trackers, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trackers, shelf = make_trackers(config, folder), Shelf(VIDEO, Path(folder), "train")
        time.sleep(SETTLE_SECONDS)
        yield shelf, trackers
        for tracker in trackers:
            tracker.close()


def roll_out(
    workers: RayWorkers,
    config: Config,
    specs: list[EpisodeSpec],
    shelf: Shelf | None = None,
    trackers: list[Tracker] | None = None,
    step: int = 0,
) -> tuple[float, float, int]:
    """Seconds until the last episode has ended, those of all cores in all processes, and all steps."""
    sampling, reel = Sampling.of(config.actor_rollout_ref.rollout), shelf.reel(step) if shelf else None
    began, cores, summaries = time.perf_counter(), core_seconds(), []
    for episode in workers.rollout(specs, sampling, keep=True, after=0, expected_steps={}, reel=reel):
        summaries.append(episode.summary)
        for tracker in trackers or ():
            tracker.log(len(summaries), ROW)
    if shelf:
        shelf.keep(step, summaries, workers.videos)
    wall = time.perf_counter() - began
    return wall, core_seconds() - cores, sum(summary.steps for summary in summaries)


def core_seconds(processes: Iterable[psutil.Process] | None = None) -> float:
    """Seconds of cores that processes have used so far; None: this one and all that it started."""
    this = psutil.Process()
    times = [process.cpu_times() for process in processes or (this, *this.children(recursive=True))]
    return sum(used.user + used.system for used in times)


def logging_seconds(config: Config, rows: int) -> float:
    """Seconds of this process's core that trackers take to be told of so many rows, beside nothing else."""
    with observers(config) as (_, trackers):
        began = time.process_time()
        for step in range(rows):
            for tracker in trackers:
                tracker.log(step, ROW)
        return time.process_time() - began


def video_seconds(workers: RayWorkers, config: Config, specs: list[EpisodeSpec]) -> list[float]:
    """Seconds of one core for the video of each episode."""
    sampling, seconds = Sampling.of(config.actor_rollout_ref.rollout), []
    for episode in workers.rollout(specs, sampling, keep=True, after=0, expected_steps={}):
        trajectory: Trajectory = ray.get(episode.trajectory)
        began = time.thread_time()
        encode(frames(trajectory, info=True), VIDEO.fps)
        seconds.append(time.thread_time() - began)
    return seconds


def report(config: Config, pairs: list[dict[str, Any]], alone: list[float], logging: float) -> None:
    """Medians as a table and as JSON."""
    video = statistics.median(alone)
    drawn = pairs[0]["episodes"] * video  # at most: all episodes, though those that cannot be chosen are not drawn
    shares = [(r["trackers_core_s"] + logging + drawn) / r["plain_core_s"] for r in pairs]
    ratio = statistics.median(row["ratio"] for row in pairs)
    table = [
        ["rollout without, s", f"{statistics.median(row['plain_s'] for row in pairs):.1f}"],
        ["rollout with videos and trackers, s", f"{statistics.median(row['observed_s'] for row in pairs):.1f}"],
        ["ratio", f"{ratio:.3f} ({min(row['ratio'] for row in pairs):.3f} – {max(row['ratio'] for row in pairs):.3f})"],
        ["ratio of core seconds", f"{statistics.median(row['core_ratio'] for row in pairs):.3f}"],
        [
            "told apart: trackers' processes, s of a core",
            f"{statistics.median(r['trackers_core_s'] for r in pairs):.2f}",
        ],
        ["calls that log, s of a core", f"{logging:.2f}"],
        ["these and a video of every episode, of the rollout's core seconds", f"{statistics.median(shares):.2%}"],
        ["videos of a rollout", str(pairs[0]["videos"])],
        ["one core for a video alone, s", f"{video:.3f}"],
        ["trackers", ", ".join(config.trainer.logger)],
    ]
    print_table("videos and trackers", ["", "median"], table)
    result = {"ratio": ratio, "share": shares, "video_core_s": alone, "logging_core_s": logging}
    print(write_result("observing", result | {"trackers": config.trainer.logger, "pairs": pairs}))


if __name__ == "__main__":
    main()
