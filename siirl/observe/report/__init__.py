"""One page per run: ``report.html``, a single file that opens offline, from what lies in the run folder."""

import logging
from collections.abc import Sequence
from pathlib import Path

from siirl.data.files import write_atomically

log = logging.getLogger(__name__)

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
    from siirl.observe.report.run import read_run, tell_apart

    runs = [read_run(folder) for folder in folders]
    content = one_run(runs[0], page) if len(runs) == 1 else several_runs(tell_apart(runs))
    write_atomically(page, lambda stream: stream.write(content.encode()))
    return page


def write_at_end(run_folder: Path) -> None:
    """Write the page of a run that is done, which a page that cannot be written does not undo: a warning has the reason."""
    try:
        print(f"report: {write_report([run_folder], run_folder / REPORT)}")
    except Exception as error:  # noqa: BLE001  (told, with what brings it about again)
        log.warning(
            "%s could not be written: %s: %s; siirl report %s tells more",
            *(run_folder / REPORT, type(error).__name__, error, run_folder),
        )
