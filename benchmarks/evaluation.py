"""Evaluating the start policy on all of libero_spatial: how long it takes beside what the simulators alone need, and whether an
evaluation that is killed on the way ends alike.

``python -m benchmarks.evaluation`` runs the command line twice: undisturbed, and killed (SIGKILL) after a third and after two
thirds of the episodes. Every episode must have been run once, those from before a kill must not have been run again, and the
two ``results.json`` must be the same, byte for byte. Right after the undisturbed run a sample of its episodes is run once more to
record its actions, and one bare process per core executes them without Ray and without a policy (as in ``benchmarks.rollout``):
the floor. The ratio is given as it is, and with the policy's core time counted out.
The policy acts on one row at a time (``trainer.deterministic``), so that what is ready together cannot change an action.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import print_table, write_result
from benchmarks.rollout import CORES, floor, roll_out
from siirl.client.evaluation import Part, prepare
from siirl.config.load import shipped_folder
from siirl.data.trajectory import EpisodeSpec
from siirl.observe.episodes import EpisodeRow, read_episodes
from siirl.observe.results import read_results
from siirl.policies.base import Sampling
from siirl.workers.ray_workers import RayWorkers

ENV = "actor_rollout_ref.embodied.env"
POLL = 0.2
"""Seconds between looks at how many episodes there are."""
CLEANUP = 120
"""Seconds that the processes of a killed driver may take to end."""


def main() -> None:
    """Measure, print and write ``results/evaluation.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="initial states of each task")
    parser.add_argument("--tasks", default="null", help="tasks of the suite, e.g. [0,2]; default: all")
    parser.add_argument("--sample", type=int, default=20, help="episodes whose actions the bare simulators execute")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark_evaluation"))
    parser.add_argument("--name", default="evaluation", help="of the file in results/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    whole, killed = given.folder / "undisturbed", given.folder / "killed"
    began = time.perf_counter()
    subprocess.run(command(whole, given), check=True)
    wall = time.perf_counter() - began
    (part,) = prepare(arguments(whole, given)).parts
    sample = measure_sample(part, given.sample)
    interruptions = run_killed(killed, given)
    check_alike(whole, killed)
    report(given, rows_of(whole), wall, [found["episodes"] for found in interruptions], sample)


def arguments(folder: Path, given: argparse.Namespace) -> list[str]:
    """What follows the command's name."""
    settings = {
        f"{ENV}.task_ids": given.tasks,
        f"{ENV}.num_trials_per_task": given.trials,
        f"{ENV}.num_holdout_trials": 0,
        f"{ENV}.max_steps": "null",
        "trainer.deterministic": "true",
        "trainer.logger": "[console]",
        "evaluate.folder": folder,
    }
    policy = str(shipped_folder("assets") / "start_policy")
    return [policy, "--config-name=quickstart", *(f"{k}={v}" for k, v in settings.items()), *given.overrides]


def command(folder: Path, given: argparse.Namespace) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "siirl.client.evaluate", *arguments(folder, given)]


def run_killed(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the command, kill it after a third of the episodes, and again after two thirds; returns what was there each time."""
    wanted = len(prepare(arguments(folder, given)).specs)
    found = []
    for share in (1 / 3, 2 / 3):
        driver = psutil.Popen(command(folder, given))
        while len(list((folder / "episodes").glob("part-*.parquet"))) < share * wanted:
            assert driver.poll() is None, "it ended before it could be killed"
            time.sleep(POLL)
        others = driver.children(recursive=True)
        driver.kill()
        driver.wait()
        _, alive = psutil.wait_procs(others, timeout=CLEANUP)
        assert not alive, f"processes outlived their driver: {alive}"
        found.append({"episodes": len(rows_of(folder)), "rows": rows_of(folder)})
        print(f"killed after {found[-1]['episodes']} of {wanted} episodes", flush=True)
    subprocess.run(command(folder, given), check=True)
    rows = rows_of(folder)
    for before in found:
        assert rows[: before["episodes"]] == before.pop("rows"), "an episode from before a kill was run again"
    return found


def check_alike(whole: Path, killed: Path) -> None:
    """Both evaluations ran every episode once, and found the same. Raises AssertionError otherwise."""
    assert read_results(whole)["complete"]
    keys = [(row.task_id, row.trial_id, row.index) for row in rows_of(killed)]
    assert len(set(keys)) == len(keys) == read_results(whole)["total"]["episodes"]
    assert (whole / "results.json").read_bytes() == (killed / "results.json").read_bytes()


def rows_of(folder: Path) -> list[EpisodeRow]:
    """The episodes of an evaluation, in the order in which they ended."""
    return [EpisodeRow(**values) for values in read_episodes(folder).to_pylist()]


def measure_sample(part: Part, count: int) -> dict[str, float]:
    """Seconds of acting per chunk, and env steps per second of bare simulators, from ``count`` episodes spread over the tasks."""
    assert count >= CORES, "each core's process replays at least one"
    specs: list[EpisodeSpec] = part.specs[:: max(1, len(part.specs) // count)][:count]
    workers = RayWorkers(part.config, part.plan)
    workers.sync(0)
    measured, trajectories = roll_out(workers, part.config, specs, Sampling.of(part.config.evaluate))
    workers.close()
    chunks = sum(trajectory.summary.chunks for trajectory in trajectories)
    return {"acting_s_per_chunk": measured["acting_s"] / chunks} | floor(part.config, trajectories)


def report(
    given: argparse.Namespace, rows: list[EpisodeRow], wall: float, killed_after: list[int], sample: dict[str, float]
) -> None:
    """Print a table and write everything to ``results/``."""
    steps, acting = sum(row.steps for row in rows), sample["acting_s_per_chunk"] * sum(row.chunks for row in rows)
    # acting keeps one core busy, which takes its share of what all could have simulated
    rates = {"": steps / wall, "_without_policy": steps / (wall - acting / CORES)}
    floors = {"": sample["floor_steps_per_s"], "_with_resets": sample["floor_with_resets_steps_per_s"]}
    result = {
        "settings": {"tasks": given.tasks, "trials": given.trials, "overrides": given.overrides},
        "episodes": len(rows),
        "successes": sum(row.success for row in rows),
        "env_steps": steps,
        "wall_s": wall,
        "acting_s": acting,
        **{f"steps_per_s{policy}": rate for policy, rate in rates.items()},
        **sample,
        **{f"ratio{p}{r}": rate / least for p, rate in rates.items() for r, least in floors.items()},
        "killed_after": killed_after,
        "identical_after_kills": True,
    }
    print_report(result)
    print(write_result(given.name, result))


def print_report(result: dict[str, Any]) -> None:
    """The numbers as a table."""
    print_table(
        f"{result['episodes']} episodes, {result['env_steps']} env steps, {result['wall_s']:.0f} s",
        ["", "env steps/s", "of the floor"],
        [
            ["the whole command", f"{result['steps_per_s']:.1f}", f"{result['ratio']:.2f}"],
            [
                "policy's core time counted out",
                f"{result['steps_per_s_without_policy']:.1f}",
                f"{result['ratio_without_policy']:.2f}",
            ],
            [
                "simulators alone, with resets",
                f"{result['floor_with_resets_steps_per_s']:.1f}",
                f"{result['floor_with_resets_steps_per_s'] / result['floor_steps_per_s']:.2f}",
            ],
            ["floor: physics + one frame per chunk", f"{result['floor_steps_per_s']:.1f}", "1"],
        ],
    )
    print(f"killed after {', '.join(map(str, result['killed_after']))} episodes: identical results")


if __name__ == "__main__":
    main()
