"""Where metrics go besides ``metrics.jsonl``: the console and TensorBoard."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from siirl.config.schema import TrainerConfig
from siirl.registry import did_you_mean

COLUMNS = (
    ("rollout/success_rate", "success", "{:.2f}"),
    ("rollout/reward_mean", "reward", "{:.2f}"),
    ("rollout/episode_length", "len", "{:.0f}"),
    ("actor/grad_norm", "grad", "{:.2g}"),
    ("val/success_rate", "val", "{:.2f}"),
    ("time/step", "time", "{:.0f}s"),
)
"""What the console shows of a step: metric, label, format."""


class Tracker(Protocol):
    """Receives the metrics of each step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step; a step may be logged in several calls."""
        ...

    def close(self) -> None:
        """Write out what is buffered."""
        ...


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
    """TensorBoard event files.

    Args:
        folder: where they go.
        name: the run's name, shown under Text.
        first_step: the step that the run resumes after; TensorBoard hides what an earlier run logged beyond it.
    """

    def __init__(self, folder: Path, name: str, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # costs a second: only when asked for

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else 0)
        self._writer.add_text("run", name, first_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


def make_trackers(config: TrainerConfig, run_folder: str | Path, first_step: int = 0) -> list[Tracker]:
    """The trackers that ``trainer.logger`` names.

    TensorBoard's folder is ``trainer.tensorboard_dir``, else ``$TENSORBOARD_DIR``, else ``tensorboard/`` in the run folder.

    Args:
        config: the trainer's config.
        run_folder: the run's folder.
        first_step: the step that the run resumes after, 0 for a new run.

    Raises:
        ValueError: a name that is no tracker's.
    """

    def tensorboard() -> Tracker:
        folder = config.tensorboard_dir or os.environ.get("TENSORBOARD_DIR") or Path(run_folder) / "tensorboard"
        return TensorBoardTracker(Path(folder), f"{config.project_name}/{config.experiment_name}", first_step)

    makers: dict[str, Callable[[], Tracker]] = {"console": ConsoleTracker, "tensorboard": tensorboard}
    for name in config.logger:
        if name not in makers:
            hint = did_you_mean(name, list(makers))
            raise ValueError(f"trainer.logger: unknown tracker {name!r}; allowed: {', '.join(makers)}.{hint}")
    return [makers[name]() for name in config.logger]
