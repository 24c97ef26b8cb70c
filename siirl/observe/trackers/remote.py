"""A tracker that speaks to a server: in a process of its own, so that nothing a server or a library does reaches the run."""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from siirl.observe.metrics import json_row
from siirl.observe.trackers.service import Start

log = logging.getLogger(__name__)

MOST_WAITING = 2000
"""Calls of `RemoteTracker.log` that wait for the process; while there are as many, further ones are left out."""


class RemoteTracker:
    """Sends metrics to a process that runs `siirl.observe.trackers.service`, through a thread.

    `log` returns at once. What the process tells, such as the run's address, is logged here; what else the library prints is in
    ``trackers/<name>.log`` in the run folder.

    Args:
        name: of the service.
        start: what it begins with.
    """

    def __init__(self, name: str, start: Start) -> None:
        self._name = name
        self._patience = start.start_seconds + start.finish_seconds + 5
        folder = Path(start.folder) / "trackers"
        folder.mkdir(parents=True, exist_ok=True)
        self._log_file = folder / f"{name}.log"
        begin = folder / f"{name}.json"
        begin.write_text(json.dumps(asdict(start)))
        command = [sys.executable, "-m", "siirl.observe.trackers.service", name, str(begin)]
        with self._log_file.open("a") as printed:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                text=True,
                start_new_session=True,  # Ctrl-C is the run's, which then closes this
            )
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._left_out = 0
        self._given_up = False
        self._sender = self._start_thread(self._send)
        self._listener = self._start_thread(self._listen)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics to the process; those that are not finite are null."""
        try:
            self._lines.put_nowait(json.dumps(json_row(step, metrics)) + "\n")
        except queue.Full:
            self._left_out += 1
            if self._left_out.bit_count() == 1:  # 1, 2, 4, 8 …
                log.warning("%s does not keep up: %d rows were left out", self._name, self._left_out)

    def close(self) -> None:
        """Let the process send what waits, but not for long; metrics.jsonl holds everything in any case."""
        try:
            self._lines.put(None, timeout=self._patience)
            self._process.wait(self._patience)
        except (queue.Full, subprocess.TimeoutExpired):
            log.warning("%s was not finished within %g s, and is ended", self._name, self._patience)
            self._given_up = True
            os.killpg(self._process.pid, signal.SIGKILL)  # and what it has started
        self._listener.join(1)

    def _start_thread(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"tracker {self._name}", daemon=True)
        thread.start()
        return thread

    def _send(self) -> None:
        """Give the process line after line; one that has ended is told once, and gets no more."""
        pipe = _of(self._process.stdin)
        try:
            while (line := self._lines.get()) is not None:
                pipe.write(line)
                pipe.flush()
            pipe.close()
        except OSError:
            code = self._process.wait()
            if not self._given_up:
                log.warning(
                    "%s has ended (exit code %s; see %s): the run goes on without it", self._name, code, self._log_file
                )
            while self._lines.get() is not None:
                """Nobody reads them."""

    def _listen(self) -> None:
        for line in _of(self._process.stdout):
            log.info("%s: %s", self._name, line.rstrip())


def _of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None, "the process was started with pipes"
    return pipe
