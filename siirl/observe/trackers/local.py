"""The trackers of this process, which need no server: the console and TensorBoard."""

import io
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from siirl.observe.backlog import Backlog, append

COLUMNS = (
    ("rollout/success_rate", "success", "{:.2f}"),
    ("rollout/reward_mean", "reward", "{:.2f}"),
    ("rollout/episode_length", "len", "{:.0f}"),
    ("actor/grad_norm", "grad", "{:.2g}"),
    ("val/success_rate", "val", "{:.2f}"),
    ("time/step", "time", "{:.0f}s"),
)
"""What the console shows of a step: metric, label, format."""


class ConsoleTracker:
    """One line per call with the most telling metrics; calls that hold none of them print nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the line."""
        shown = [f"{label} {form.format(metrics[name])}" for name, label, form in COLUMNS if name in metrics]
        if shown:
            print(f"step {step:>4}  " + "  ".join(shown), flush=True)

    def close(self) -> None:
        """Nothing is buffered."""


class TensorBoardTracker:
    """A TensorBoard event file, written at once, whole records at a time: torch's `SummaryWriter` leaves that to a thread, which
    a full disk ends at a moment of its own. While the disk is full, records wait in memory.

    Args:
        folder: where the file goes; created if absent.
        name: the run's name, shown under Text.
        first_step: the step that the run resumes after; TensorBoard hides what earlier files hold of later ones. 0: a new run.
    """

    def __init__(self, folder: Path, name: str, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"  # sorted by time
        self._backlog: Backlog[bytes] = Backlog(
            f"TensorBoard's folder {folder}", lambda records: append(file, b"".join(records))
        )
        self._records = _Records()
        self._backlog.add(*self._records.beginning(name, first_step))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the scalars."""
        self._backlog.add(*self._records.scalars(step, metrics))

    def close(self) -> None:
        """Write what still waits."""
        self._backlog.close()


class _Records:
    """What event files hold: protocol buffers (tensorboard's event.proto), each framed by lengths and checksums."""

    def __init__(self) -> None:
        from tensorboard.compat.proto import event_pb2  # with torch's, these cost a second: only when asked for
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        self._proto, self._frame, self._summary = event_pb2, RecordWriter, summary

    def beginning(self, name: str, first_step: int) -> Iterator[bytes]:
        yield self._record(file_version="brain.Event:2")
        if first_step:
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            yield self._record(step=first_step + 1, session_log=start)
        yield self._record(step=first_step, summary=self._summary.text("run", name))

    def scalars(self, step: int, metrics: Mapping[str, float]) -> Iterator[bytes]:
        for name, value in metrics.items():
            yield self._record(step=step, summary=self._summary.scalar(name, value))

    def _record(self, **fields: Any) -> bytes:
        framed = io.BytesIO()
        self._frame(framed).write(self._proto.Event(wall_time=time.time(), **fields).SerializeToString())
        return framed.getvalue()
