"""The live display of a run: which step, what is being done, how many episodes are in, and how well they go."""

import logging
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from siirl.data.trajectory import EpisodeSummary

STAGES = {
    "rollout": "rolling out",
    "embedding": "embedding",
    "update": "updating",
    "weight_sync": "sending weights",
    "validation": "validating",
    "evaluation": "evaluating",
    "checkpoint": "saving",
}
"""How stages are called on the screen; others appear under their own name."""
PASSING = ("reward", "advantage", "weight_sync")
"""Stages of a moment, for which no line is worth its place where there is no terminal."""
WITH_EPISODES = (STAGES["rollout"], STAGES["validation"], STAGES["evaluation"])
QUIET_SECONDS = 10.0
"""Without a terminal, at least this long between two lines about episodes."""


class Progress:
    """A live display on a terminal; elsewhere plain lines: one per stage of some length, one about episodes every 10 s at most.

    Use as a context manager around the run.

    Args:
        total_steps: training steps of the whole run, those before a resume included; 0 shows no step.
        enabled: False shows nothing at all.
        console: where to draw; the standard output by default.
        clock: seconds, monotonic.
        test_freq: steps from one validation to the next; the last step has one, too. −1: there are none.
    """

    def __init__(
        self,
        total_steps: int,
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        test_freq: int = -1,
    ) -> None:
        self.total_steps, self._test_freq = total_steps, test_freq
        self._console = console or Console(highlight=False)
        self._clock = clock
        self._enabled = enabled
        self._spinner = Spinner("dots", style="cyan")
        self._started = self._step_ended = self._stage_started = self._last_line = clock()
        self._step = self._steps_here = 0
        self._validations: list[float] = []  # seconds of each one
        self._validated = 0.0  # seconds of those since the first rollout
        self._stage = "starting"
        self._episodes = self._episodes_done = self._successes = self._episodes_before = 0
        self._last_metrics: Mapping[str, float] = {}
        self._groups_kept = ""
        # Last, because it renders at once.
        live = enabled and self._console.is_terminal
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4) if live else None

    def __enter__(self) -> "Progress":
        self._started = self._stage_started = self._clock()
        if self._live:
            before = sys.stderr
            self._live.start()
            _redirect_logs(before, sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        self._stage, self._episodes = "", 0
        if self._live:
            during = sys.stderr
            self._live.stop()
            _redirect_logs(during, sys.stderr)

    def resume(self, step: int) -> None:
        """The run goes on after ``step`` steps of an earlier one."""
        self._step = step

    def stage(self, name: str) -> None:
        """A stage of the step begins; an episode bar of the stage before goes away."""
        if self._stage == STAGES["validation"]:
            self._validations.append(self._clock() - self._stage_started)
            self._validated += self._validations[-1]
        self._stage, self._stage_started = STAGES.get(name, name), self._clock()
        if name == "rollout" and not self._steps_here:
            self._started, self._validated = self._stage_started, 0.0  # what came before is not the pace of steps
        if self._episodes_done == self._episodes:  # else they are the next step's, which has begun
            self._episodes = 0
        if name not in PASSING:
            self._line(f"{self._step_text()}{self._stage}")

    def episodes(self, total: int, done: int = 0, successes: int = 0) -> None:
        """``total`` episodes have been queued: start a bar for them; 0: none are left.

        Args:
            done: how many of them an earlier start has run.
            successes: how many of these succeeded.
        """
        self._episodes, self._episodes_done, self._successes, self._episodes_before = total, done, successes, done

    def episode_done(self, summary: EpisodeSummary) -> None:
        """One of the queued episodes ended."""
        self._episodes_done += 1
        self._successes += summary.success
        if self._clock() - self._last_line >= QUIET_SECONDS:
            self._line(f"{self._step_text()}{self._stage}: {self._episodes_text()}")

    def step_done(self, step: int, metrics: Mapping[str, float]) -> None:
        """Training step ``step`` (from 1) is complete."""
        self._step, self._steps_here, self._step_ended = step, self._steps_here + 1, self._clock()
        self._last_metrics = dict(self._last_metrics) | dict(metrics)
        self._groups_kept = _groups_kept(metrics)
        if self._groups_kept:
            self._line(f"step {step}/{self.total_steps}  {self._groups_kept} by the filter")

    def _line(self, text: str) -> None:
        if self._enabled and not self._live:
            self._console.print(text, soft_wrap=True)
            self._last_line = self._clock()

    def _step_text(self) -> str:
        if not self.total_steps:
            return ""
        left = self._seconds_left()
        rest = "" if left is None else f" ({_duration(left)} left)"
        return f"step {min(self._step + 1, self.total_steps)}/{self.total_steps}{rest}  "

    def _episodes_text(self) -> str:
        done = self._episodes_done
        rate = f", success {self._successes / done:.0%}" if done else ""
        left = None if self.total_steps else self._seconds_left()
        return f"{done}/{self._episodes} episodes{rate}" + ("" if left is None else f", {_duration(left)} left")

    def _seconds_left(self) -> float | None:
        """Time for the remaining steps and validations at this run's own pace, or for the remaining episodes where nothing is
        trained; None before the first step, and when they take longer. Before the first validation there is no pace of these."""
        if not self.total_steps and self._episodes_before < self._episodes_done < self._episodes:
            pace = (self._clock() - self._stage_started) / (self._episodes_done - self._episodes_before)
            return pace * (self._episodes - self._episodes_done)
        if not self._steps_here or self._step >= self.total_steps:
            return None
        pace = (self._step_ended - self._started - self._validated) / self._steps_here
        left = pace * (self.total_steps - self._step) - (self._clock() - self._step_ended)
        if self._validations:
            left += statistics.mean(self._validations) * self._validations_left()
        return left if left > 0 else None

    def _validations_left(self) -> int:
        """Of the steps after the last complete one."""
        if self._test_freq < 1:
            return 0
        return -(-self.total_steps // self._test_freq) - self._step // self._test_freq

    def _render(self) -> RenderableType:
        """The display: a row for training, unless nothing is trained, and one for the stage while there is one."""
        left = self._seconds_left()
        rows = Table.grid(padding=(0, 2), expand=True)
        rows.add_column(width=13, no_wrap=True)
        rows.add_column(ratio=1)
        rows.add_column(no_wrap=True, justify="right")
        rows.add_column(width=24, no_wrap=True)
        if self.total_steps:
            rows.add_row(
                Text("  training", style="bold"),
                ProgressBar(self.total_steps, self._step, complete_style="cyan", finished_style="green"),
                f"{self._step}/{self.total_steps} steps",
                Text("" if left is None else f"{_duration(left)} left", style="dim"),
            )
        if self._stage:
            self._spinner.update(text=Text(self._stage))
            elapsed = Text(_duration(self._clock() - self._stage_started), style="dim")
            if self._episodes and (self._episodes_done or self._stage in WITH_EPISODES):
                bar: RenderableType = ProgressBar(self._episodes, self._episodes_done, complete_style="magenta")
                done = self._episodes_done
                if not self.total_steps and left is not None:
                    elapsed = Text(f"{_duration(left)} left", style="dim")
                rate = Text(f"success {self._successes / done:.0%}  " if done else "", style="green") + elapsed
                rows.add_row(self._spinner, bar, f"{done}/{self._episodes} episodes", rate)
            else:
                rows.add_row(self._spinner, "", "", elapsed)
        return Group(rows, self._latest()) if self._last_metrics else rows

    def _latest(self) -> Text:
        parts = [
            f"{label} {self._last_metrics[name]:.1%}"
            for name, label in (("rollout/success_rate", "success"), ("val/success_rate", "validation"))
            if name in self._last_metrics
        ]
        parts += [self._groups_kept] if self._groups_kept else []
        return Text("  latest       " + "  ·  ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")


def _redirect_logs(old: TextIO, new: TextIO) -> None:
    """Log lines that went to ``old`` go to ``new``: a line written past the display would be overdrawn by it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)


def _groups_kept(metrics: Mapping[str, float]) -> str:
    """How many of a step's groups passed the filter, e.g. ``3 of 4 groups kept``; empty when it dropped none."""
    dropped = sum(value for name, value in metrics.items() if name.startswith("filter/dropped_"))
    if not dropped:
        return ""
    groups = round(dropped / (1 - metrics["filter/acceptance_rate"]))
    return f"{groups - round(dropped)} of {groups} groups kept"


def _duration(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 3:07:12."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
