"""One page about a run, or about several beside each other: ``siirl report RUN_DIR [RUN_DIR …]``."""

import argparse
import sys
import time
from pathlib import Path

from siirl.observe.report import REPORT, write_report

COMPARISON = "comparison.html"
EXAMPLE = """\
examples:
  siirl report runs/quickstart                    writes runs/quickstart/report.html
  siirl report runs/srpo runs/grpo --out ab.html  both on one page
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 for a folder that is none of a run."""
    parser = argparse.ArgumentParser(
        "siirl report",
        description="Write one HTML page about a run: curves, tasks, timeline, films, config. It opens offline.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="folder of a run or of an evaluation")
    where = f"the file to write (default: {REPORT} in the folder; of several runs, {COMPARISON} here)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=where)
    given = parser.parse_args(argv)
    page = given.out or (given.runs[0] / REPORT if len(given.runs) == 1 else Path(COMPARISON))
    began = time.monotonic()
    try:
        write_report(given.runs, page)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{page}: {page.stat().st_size / 2**20:.2f} MB, in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
