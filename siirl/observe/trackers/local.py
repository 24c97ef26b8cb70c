"""The trackers of this process, which need no server: the console and TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siirl.observe.backlog import Backlog

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
    """TensorBoard event files. While the disk is full, metrics wait in memory.

    Args:
        folder: where they go.
        name: the run's name, shown under Text.
        first_step: the step that the run resumes after; TensorBoard hides what an earlier run logged beyond it.
    """

    def __init__(self, folder: Path, name: str, first_step: int) -> None:
        self._folder = folder
        self._writer = _event_file(folder, first_step + 1 if first_step else 0)
        self._writer.add_text("run", name, first_step)
        self._backlog = Backlog(f"TensorBoard's folder {folder}", self._write)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the scalars."""
        self._backlog.add((step, dict(metrics)))

    def close(self) -> None:
        """Close the event file."""
        self._backlog.close()
        if self._writer is not None:
            self._writer.close()

    def _write(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        self._probe()
        if self._writer is None:
            self._writer = _event_file(self._folder, purge_step=rows[0][0])  # part of the rows may be there already
        try:
            for step, metrics in rows:
                for name, value in metrics.items():
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        except OSError:
            self._writer = None  # its thread has died of the error, and its last record may be cut short
            raise

    def _probe(self) -> None:
        """Raise the OSError here while the disk is full. TensorBoard's own thread tells of it with a traceback, and sometimes
        only at a later step, when the rows count as written."""
        probe = self._folder / "probe.tmp"
        try:
            probe.write_bytes(bytes(65536))
        finally:
            probe.unlink(missing_ok=True)


def _event_file(folder: Path, purge_step: int) -> Any:
    """A `SummaryWriter`; TensorBoard hides what earlier files hold from ``purge_step`` on."""
    from torch.utils.tensorboard import SummaryWriter  # costs a second: only when asked for

    return SummaryWriter(str(folder), purge_step=purge_step)
