"""A file of JSON lines that grows with the run's steps, and is cut back to the step that a run resumes after."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siirl.observe.backlog import Backlog, append


class StepLog:
    """One JSON object a line, each with its ``step``, flushed at once. While the disk is full, lines wait in memory.

    Args:
        path: the file; its folder is created if absent.
        resume_step: the step that the run resumes after. Lines of later steps, and a line that a crash cut short, are
            removed first, atomically, because those steps are run again. 0: a new run; the file starts empty. None: all lines
            stay, and need no ``step``.
        resume_row: that step's line, put where a crash kept it from being written.
    """

    def __init__(self, path: Path, resume_step: int | None = 0, resume_row: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self._lines() if _stays(line, resume_step)]
        if resume_row is not None and resume_row["step"] not in map(_step_of, kept):
            kept.append(json.dumps(resume_row) + "\n")
        replacement = self.path.with_suffix(".tmp")
        with replacement.open("w") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        replacement.replace(self.path)
        self._backlog: Backlog[bytes] = Backlog(str(self.path), lambda lines: append(self.path, b"".join(lines)))

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a line."""
        self._backlog.add(f"{json.dumps(row)}\n".encode())

    def close(self) -> None:
        """Write what still waits."""
        self._backlog.close()

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines(keepends=True) if self.path.exists() else []


def _stays(line: str, resume_step: int | None) -> bool:
    if resume_step is None:
        return line.endswith("\n")
    return 0 < resume_step >= _step_of(line) >= 0


def _step_of(line: str) -> int:
    """The step of a line; −1 for a line that was not written to its end."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else -1
    except json.JSONDecodeError:
        return -1
