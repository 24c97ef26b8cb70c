"""Metrics: what episodes say about the policy, where the time goes, and ``metrics.jsonl``."""

import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from siirl.config.environments import TRAINING
from siirl.data.trajectory import EpisodeSummary
from siirl.observe.step_log import StepLog
from siirl.training.checkpoint import METRICS

Metrics = Mapping[str, float]


class MetricsLog(StepLog):
    """``metrics.jsonl`` in the run folder: one JSON object per call, with its ``step``.

    Args:
        run_folder: created if absent.
        resume_step: the step that the run resumes after, see `StepLog`.
        resume_row: that step's `json_row`, put where a crash kept it from being logged.
    """

    def __init__(
        self, run_folder: str | Path, resume_step: int = 0, resume_row: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(Path(run_folder) / METRICS, resume_step, resume_row)

    def log(self, step: int, metrics: Metrics) -> None:
        """Append the `json_row` of ``metrics``."""
        self.append(json_row(step, metrics))


def json_row(step: int, metrics: Metrics) -> dict[str, float | None]:
    """``step`` and ``metrics`` as a line of metrics.jsonl holds them; NaN and infinity, which JSON has not, become null."""
    values = {name: float(value) for name, value in metrics.items()}
    return {"step": step} | {name: v if math.isfinite(v) else None for name, v in values.items()}


def rollout_metrics(summaries: Sequence[EpisodeSummary], rewards: Sequence[float] | None = None) -> dict[str, float]:
    """What a step's n ≥ 1 episodes say, those of dropped groups included.

    ``rollout/*`` and ``env/step_reward``, the simulator's reward of a step, leave out episodes with a ``drop_reason`` (they are 0
    when all of them have one), the other ``env/*`` count all. ``env/termination_rate`` counts episodes that ended by themselves;
    ``env/success_once`` is another name of ``env/success_rate``, which other trainers use. With episodes of ``val_env`` among
    them, ``…/imagined`` and ``…/real`` tell those of each environment apart.

    Args:
        summaries: of the step's episodes.
        rewards: of the episodes that were scored, in any order; None or empty when none was.
    """
    assert summaries, "a rollout has episodes"
    valid = [s for s in summaries if s.drop_reason is None]
    reasons = Counter(re.sub(r"[^a-z0-9]+", "_", s.drop_reason.lower()) for s in summaries if s.drop_reason is not None)
    metrics = {
        "rollout/success_rate": _mean([s.success for s in valid]),
        "rollout/episode_length": _mean([s.steps for s in valid]),
        "env/success_rate": (success := _mean([s.success for s in summaries])),
        "env/success_once": success,
        "env/termination_rate": _mean([not s.truncated and s.drop_reason is None for s in summaries]),
        "env/step_reward": sum(s.reward_sum for s in valid) / max(sum(s.steps for s in valid), 1),
        "env/retries": float(sum(s.retries for s in summaries)),
        "env/dropped": float(reasons.total()),
    }
    if rewards is not None and len(rewards):
        metrics["rollout/reward_mean"] = _mean(rewards)
        metrics["rollout/reward_std"] = float(np.std(rewards))
    metrics |= _by_environment(summaries)
    return metrics | {f"env/dropped/{reason}": float(count) for reason, count in reasons.items()}


def _by_environment(summaries: Sequence[EpisodeSummary]) -> dict[str, float]:
    """Success and length of the valid imagined and real episodes; nothing where all are of the training environment."""
    if all(s.spec.env == TRAINING for s in summaries):
        return {}
    found = {"rollout/real_fraction": _mean([s.spec.env != TRAINING for s in summaries])}
    valid = [s for s in summaries if s.drop_reason is None]
    if imagined := [s for s in valid if s.spec.env == TRAINING]:
        found["rollout/success_rate/imagined"] = _mean([s.success for s in imagined])
        found["rollout/episode_length/imagined"] = _mean([s.steps for s in imagined])
    if real := [s for s in valid if s.spec.env != TRAINING]:
        found["rollout/success_rate/real"] = _mean([s.success for s in real])
        found["rollout/episode_length/real"] = _mean([s.steps for s in real])
    return found


def validation_metrics(summaries: Sequence[EpisodeSummary]) -> dict[str, float]:
    """``val/success_rate`` of n ≥ 1 episodes and of each task, e.g. ``val/success_rate/libero_spatial_0``.

    A dropped episode counts as a failure; ``val/dropped`` tells how many there are.
    """
    assert summaries, "a validation has episodes"
    tasks: dict[str, list[bool]] = defaultdict(list)
    for summary in summaries:
        tasks[f"{summary.spec.suite}_{summary.spec.task_id}"].append(summary.success)
    return {
        "val/success_rate": _mean([s.success for s in summaries]),
        "val/dropped": float(sum(s.drop_reason is not None for s in summaries)),
        **{f"val/success_rate/{task}": _mean(success) for task, success in sorted(tasks.items())},
    }


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval (low, high) of a success rate from ``successes`` in n ≥ 1 trials; z = 1.96 gives 95 %.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    assert 0 <= successes <= n != 0, f"{successes} successes in {n} trials"
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # Exact at the ends, where rounding could leave the rate itself just outside.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half


class StepTimer:
    """Where a step's wall time goes; the step begins when the timer is made. For use from one thread.

    ``with timer("rollout"):`` times a section. Sections may repeat and nest: times of one name add up, and while an
    inner section runs the outer one's clock stands still, so that the sections' times never add up to more than the
    step's.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begin = self._last = clock()
        self._open: list[str | None] = [None]
        self._seconds: dict[str | None, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a section."""
        self._charge()
        self._open.append(name)
        self._seconds[name] += 0.0
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        """Book the time since the last booking to the innermost open section."""
        now = self._clock()
        self._seconds[self._open[-1]] += now - self._last
        self._last = now

    def metrics(self) -> dict[str, float]:
        """``time/<section>`` and ``time/step``, seconds so far; ``time/unaccounted``: share of the step in no section."""
        self._charge()
        step = self._last - self._begin
        sections = {f"time/{name}": seconds for name, seconds in self._seconds.items() if name is not None}
        return sections | {"time/step": step, "time/unaccounted": self._seconds[None] / step if step > 0 else 0.0}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
