"""Everything around the algorithm: which step it is, where it resumes, clocks, logs and checkpoints."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siirl.config.load import config_to_dict
from siirl.config.schema import Config
from siirl.data.manifest import Prompt
from siirl.data.mixture import training_sampler
from siirl.data.sampler import episode_specs
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary
from siirl.observe.episodes import EpisodeLog, EpisodeRow
from siirl.observe.metrics import MetricsLog, StepTimer, json_row, validation_metrics
from siirl.observe.progress import Progress
from siirl.observe.step_log import StepLog
from siirl.observe.timeline import TIMELINE, Clock, Notebook, timeline_row
from siirl.observe.trackers.make import make_trackers
from siirl.training.checkpoint import CheckpointFailed, CheckpointManager
from siirl.training.run_folder import weights_digest
from siirl.workers.base import Workers

log = logging.getLogger(__name__)


class Session:
    """The state of a run on the driver.

    Args:
        config: the run's config.
        workers: saves and loads the model.
        prompts: training and validation prompts.
        progress: the display.
    """

    def __init__(
        self, config: Config, workers: Workers, prompts: tuple[list[Prompt], list[Prompt]], progress: Progress
    ) -> None:
        trainer = config.trainer
        self.config, self.progress = config, progress
        self._workers = workers
        self._validation_prompts = prompts[1]
        self.sampler = training_sampler(prompts[0], config)
        self.total_steps = total_steps(config, len(prompts[0]))
        self.step = 0
        self.success_before: float | None = None
        self.success_after: float | None = None
        self.skipped_steps = 0
        self._resumed_row: dict[str, Any] | None = None
        run_folder = Path(trainer.default_local_dir).absolute()  # workers may run elsewhere
        self._checkpoints = CheckpointManager(run_folder, trainer.max_actor_ckpt_to_keep)
        self._start_weights = weights_digest(Path(config.actor_rollout_ref.model.path))
        self._resume()
        workers.sync(self.step)
        self._metrics = MetricsLog(run_folder, resume_step=self.step, resume_row=self._resumed_row)
        self._episodes = EpisodeLog(run_folder, resume_step=self.step)
        self._timeline = StepLog(run_folder / TIMELINE, resume_step=self.step)
        self._trackers = make_trackers(config, run_folder, first_step=self.step)
        self._timer = StepTimer()
        self._notebook = Notebook("driver")
        self._began = time.monotonic()

    def _resume(self) -> None:
        trainer = self.config.trainer
        found = self._checkpoints.find(trainer.resume_mode, trainer.resume_from_path)
        if found is None:
            return
        self._workers.submit("load", found.path).result()
        state = found.state
        self.step = state["step"]
        self.progress.resume(self.step)
        self.sampler.load_state_dict(state["sampler"])
        self.success_before = state["success_before"]
        self.success_after = state["success_after"]
        self.skipped_steps = state["skipped_steps"]
        self._resumed_row = state.get("row")
        log.info("resumed from %s", found.path)

    def begin_step(self) -> None:
        """Start the clocks of the next step."""
        self.step += 1
        self._timer = StepTimer()
        self._began = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of the step as ``time/<name>`` and show it."""
        self.progress.stage(name)
        with self._timer(name), self._notebook.span("driver", name):
            yield

    def due(self, frequency: int) -> bool:
        """Whether something that happens every ``frequency`` steps, and at the end, happens now (−1: never)."""
        return frequency > 0 and (self.step % frequency == 0 or self.step == self.total_steps)

    def next_due(self, frequency: int) -> int:
        """The first step, from the present one on, at which `due` is true; the last one if there is none."""
        if frequency < 1:
            return self.total_steps
        return min(math.ceil(self.step / frequency) * frequency, self.total_steps)

    def count_skipped(self, skipped: bool) -> None:
        """Count a step in which no group survived the filter."""
        if skipped:
            self.skipped_steps += 1
            log.warning("step %d: no group survived the filter; no update", self.step)

    def validation_specs(self) -> list[EpisodeSpec]:
        """Every validation prompt, `val_kwargs.n` times; the same seeds at every step."""
        n = self.config.actor_rollout_ref.rollout.val_kwargs.n
        return episode_specs(self._validation_prompts, n=n, seed=self.config.trainer.seed, step=None)

    def validation_metrics(self, summaries: Sequence[EpisodeSummary]) -> dict[str, float]:
        """Log the episodes; returns their ``val/*``, remembering the success rate of the first and of the latest one after it."""
        self.log_episodes(EpisodeRow.of(summary, self.step, "val") for summary in summaries)
        metrics = validation_metrics(summaries)
        if self.success_before is None:
            self.success_before = metrics["val/success_rate"]
        else:
            self.success_after = metrics["val/success_rate"]
        return metrics

    def save(self, metrics: dict[str, float], sampler: dict[str, Any]) -> dict[str, float]:
        """Write a checkpoint; a full disk is reported, and training goes on with the old one in place.

        Args:
            metrics: of the step so far, which the checkpoint keeps too: a crash before they are logged does not lose them.
            sampler: where the sampler stood after the step's batch; it may have gone on for the next one.
        """
        state = {
            "step": self.step,
            "epoch": sampler["epoch"],
            "sampler": sampler,
            "success_before": self.success_before,
            "success_after": self.success_after,
            "skipped_steps": self.skipped_steps,
            "start_weights": self._start_weights,
            "row": json_row(self.step, self._with_totals(metrics)),
            "config": config_to_dict(self.config),
        }
        self._episodes.flush()  # a run that resumes from here does not run them again
        try:
            with self._checkpoints.staging(self.step) as folder:
                written = self._workers.submit("save", folder).result()
                self._checkpoints.commit(self.step, state, written)
        except CheckpointFailed as error:
            log.warning("%s", error)
            return {"checkpoint/failed": 1.0}
        return {"checkpoint/failed": 0.0}

    def end_step(self, metrics: dict[str, float]) -> None:
        """Log the step's metrics with its times, and in some steps what every process did."""
        self.log(self._with_totals(metrics))
        frequency = self.config.trainer.timeline_freq
        if frequency > 0 and (self.step - 1) % frequency == 0:
            self._log_timeline()
        self.progress.step_done(self.step, metrics)

    def _with_totals(self, metrics: dict[str, float]) -> dict[str, float]:
        return metrics | {"train/skipped_steps": float(self.skipped_steps)} | self._timer.metrics()

    def _log_timeline(self) -> None:
        end, clock = time.monotonic(), Clock.here()
        recordings = [self._notebook.recording(self._began), *self._workers.recordings(self._began, clock)]
        self._timeline.append(timeline_row(self.step, self._began, end, clock, recordings))

    def log_episodes(self, rows: Iterable[EpisodeRow]) -> None:
        """Append to the run's episodes."""
        for row in rows:
            self._episodes.add(row)

    def log(self, metrics: dict[str, float]) -> None:
        """Send metrics of the current step to metrics.jsonl and the trackers."""
        self._metrics.log(self.step, metrics)
        for tracker in self._trackers:
            tracker.log(self.step, metrics)

    def close(self) -> None:
        """Flush logs and trackers."""
        self._metrics.close()
        self._episodes.close()
        self._timeline.close()
        for tracker in self._trackers:
            tracker.close()


def total_steps(config: Config, num_prompts: int) -> int:
    """`trainer.total_training_steps`, else as many as `trainer.total_epochs` gives with a batch of prompts per step; none with
    `trainer.val_only`."""
    if config.trainer.val_only:
        return 0
    if config.trainer.total_training_steps is not None:
        return config.trainer.total_training_steps
    return max(1, config.trainer.total_epochs * num_prompts // config.data.train_batch_size)
