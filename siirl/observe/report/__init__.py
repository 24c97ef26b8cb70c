"""One page per run: ``report.html``, a single file that opens offline, from what lies in the run folder."""

from collections.abc import Sequence
from pathlib import Path

from siirl.data.files import write_atomically

REPORT = "report.html"


def write_report(folders: Sequence[Path], page: Path) -> Path:
    """Write the page of a run, or of several beside each other; returns it.

    Args:
        folders: run folders, or those of evaluations; at least one.
        page: the file to write.

    Raises:
        ValueError: one of them is no such folder.
    """
    from siirl.observe.report.page import (  # what reads Parquet and decodes videos, only when asked for
        one_run,
        several_runs,
    )
    from siirl.observe.report.run import read_run

    runs = [read_run(folder) for folder in folders]
    content = one_run(runs[0], page) if len(runs) == 1 else several_runs(runs)
    write_atomically(page, lambda stream: stream.write(content.encode()))
    return page
