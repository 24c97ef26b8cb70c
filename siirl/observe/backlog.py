"""Rows on their way to a disk that may be full."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from siirl.training.checkpoint import DISK_ERRORS

log = logging.getLogger(__name__)
R = TypeVar("R")


class Backlog(Generic[R]):
    """Rows that are written at once, or wait in memory while the disk is full: a run does not end for want of a log.

    Args:
        place: where the rows go, for the warning.
        write: writes rows; when it raises an OSError, all of them are given to it again.
    """

    def __init__(self, place: str, write: Callable[[Sequence[R]], None]) -> None:
        self._place = place
        self._write = write
        self._rows: list[R] = []
        self._full = False

    def add(self, *rows: R) -> None:
        """Write rows, after those that wait. A full disk is told once; other errors are raised."""
        self._rows.extend(rows)
        self._flush()

    def close(self) -> None:
        """Try a last time; rows that cannot be written are told and lost."""
        if self._rows:
            self._flush()
        if self._rows:
            log.warning("%d rows could not be written to %s and are lost", len(self._rows), self._place)

    def _flush(self) -> None:
        try:
            self._write(self._rows)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            if not self._full:
                log.warning("%s cannot be written: %s; rows wait in memory until it can", self._place, error)
            self._full = True
        else:
            self._rows, self._full = [], False


def append(file: Path, data: bytes) -> None:
    """Append all of ``data`` to a file, which is made if it is not there, or nothing.

    Raises:
        OSError: the disk is full, say.
    """
    file.touch()
    size = file.stat().st_size
    try:
        with file.open("ab") as opened:
            opened.write(data)
    except OSError:
        os.truncate(file, size)
        raise
