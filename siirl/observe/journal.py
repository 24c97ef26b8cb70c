"""The run's journal: when it was started, by which command and with which versions; what it warned of; how it ended."""

import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from siirl.observe.machine import environment
from siirl.observe.step_log import StepLog

JOURNAL = "journal.jsonl"

MOST_WARNINGS = 500
"""Of each start. A warning that was given before is not written again."""


class Journal(logging.Handler):
    """``journal.jsonl`` in the run folder, one JSON object a line with its ``time`` (seconds since 1970) and ``kind``:

    - ``start``: ``command``, ``host``, ``pid``, the ``step`` that it goes on from, and what `environment` tells;
    - ``warning``: ``message`` and the ``source`` that gave it, of whatever the driver's process logs as a warning or worse;
    - ``end``: ``how``, which is done, interrupted or crashed, and then the ``error``. A run that was killed has none.

    Use as a context manager around the run. What is warned of before `open` is written then; nothing is, if it never comes.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log: StepLog | None = None
        self._waiting: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._writing = False

    def __enter__(self) -> "Journal":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)
        if kind is None:
            self._write("end", how="done")
        elif issubclass(kind, KeyboardInterrupt):
            self._write("end", how="interrupted")
        else:
            self._write("end", how="crashed", error=f"{kind.__name__}: {error}")
        if self._log is not None:
            self._log.close()

    def open(self, run_folder: Path, command: Sequence[str], step: int) -> None:
        """The run begins, after ``step``."""
        self._log = StepLog(run_folder / JOURNAL, resume_step=None)
        where = {"host": socket.gethostname(), "pid": os.getpid()}
        self._write("start", command=list(command), step=step, **where, **environment())
        for row in self._waiting:
            self._log.append(row)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a warning."""
        message = record.getMessage()
        if self._writing or message in self._seen or len(self._seen) == MOST_WARNINGS:
            return  # a disk that refuses this very file is told elsewhere
        self._seen.add(message)
        self._write("warning", message=message, source=record.name)

    def _write(self, kind: str, **fields: Any) -> None:
        row = {"time": round(time.time(), 3), "kind": kind, **fields}
        if self._log is None:
            self._waiting.append(row)
            return
        self._writing = True
        try:
            self._log.append(row)
        finally:
            self._writing = False
