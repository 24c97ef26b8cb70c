"""How long the report of a long run takes, and how large it becomes: ``python -m benchmarks.report``."""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.common import print_table, write_result
from benchmarks.made_up_run import MadeUpRun
from siirl.observe.report import REPORT, write_report

GOAL_SECONDS, GOAL_MEGABYTES = 20, 15


def main() -> None:
    """Make runs up, write their pages, print and write down what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="training steps of a run")
    parser.add_argument("--groups", type=int, default=64, help="groups of 8 episodes in a step")
    parser.add_argument("--tested", type=int, default=500, help="episodes of a validation, every five steps")
    parser.add_argument("--keep", type=Path, help="folder to leave runs and pages in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        runs = [folder / name for name in ("slow", "fast")]
        for seed, run in enumerate(runs):
            if not run.exists():
                MadeUpRun(
                    run, given.steps, given.groups, 8, given.tested, films=24, seed=seed, speed=0.6 + 0.6 * seed
                ).write()
        pages = {"one run": runs[1:], "two runs compared": runs}
        rows = {
            name: timed(chosen, chosen[-1] / REPORT if len(chosen) == 1 else folder / "comparison.html")
            for name, chosen in pages.items()
        }
    columns = ["page", f"seconds (< {GOAL_SECONDS})", "of CPU", f"MB (< {GOAL_MEGABYTES})"]
    print_table(f"{given.steps} steps", columns, [[name, *row.values()] for name, row in rows.items()])
    sizes = {"steps": given.steps, "episodes_per_step": given.groups * 8, "validation_episodes": given.tested}
    print(write_result("report", sizes | {"pages": rows}))


def timed(runs: list[Path], page: Path) -> dict[str, float]:
    """Seconds and size of a page."""
    began, worked = time.perf_counter(), time.process_time()
    write_report(runs, page)
    times = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
    return {name: round(spent, 2) for name, spent in times.items()} | {"megabytes": round(page.stat().st_size / 1e6, 2)}


if __name__ == "__main__":
    main()
