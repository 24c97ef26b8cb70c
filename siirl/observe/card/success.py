"""How well a policy does, for its model card: rates with intervals, from the run and from an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from siirl.config.schema import Config
from siirl.observe.metrics import wilson_interval
from siirl.observe.report.headline import validations
from siirl.observe.report.numbers import Rate, rate_of
from siirl.observe.report.run import Run
from siirl.observe.results import percent

MOST_ROWS = 10
"""Rows of the table of training."""


@dataclass(frozen=True)
class Measurement:
    """Success of the exported policy itself.

    Attributes:
        suite: of tasks.
        how: which episodes, and how the policy acted, in a few words.
        split: ``all`` or ``holdout``.
        rate: successes and episodes.
    """

    suite: str
    how: str
    split: str
    rate: Rate


def evaluated(results: Mapping[str, Any]) -> list[Measurement]:
    """Of each suite of a finished evaluation, the content of its ``results.json``."""
    settings = results["settings"]
    split, tasks = settings["evaluate.split"], settings["actor_rollout_ref.embodied.env.task_ids"]
    which = "all tasks" if tasks is None else "tasks " + ", ".join(map(str, tasks))
    mode = _mode(settings["evaluate.do_sample"], settings["evaluate.temperature"])
    how = f"{which}, {'held-out' if split == 'holdout' else 'all'} trials, {mode}"
    return [
        Measurement(suite["suite"], how, split, Rate(suite["successes"], suite["episodes"]))
        for suite in results["suites"]
    ]


def validated(run: Run, config: Config, step: int) -> list[Measurement]:
    """The validation of the run at ``step``, where there was one and its episodes were kept."""
    found = [rate for at, rate in validations(run) if at == step]
    if not found or not isinstance(found[0], Rate):
        return []
    env = config.actor_rollout_ref.embodied.env
    tasks = "all tasks" if env.task_ids is None else "tasks " + ", ".join(map(str, env.task_ids))
    split = "holdout" if env.num_holdout_trials else "all"
    how = f"{tasks}, {'held-out' if env.num_holdout_trials else 'all'} trials, {validation_mode(config)}"
    return [Measurement(env.env_name, how, split, found[0])]


def validation_mode(config: Config) -> str:
    """How the policy acts in validation."""
    acting = config.actor_rollout_ref.rollout.val_kwargs
    return _mode(acting.do_sample, acting.temperature)


def _mode(sampled: bool, temperature: float) -> str:
    return f"sampled at temperature {temperature:g}" if sampled else "greedy"


def validation_table(run: Run, last: int) -> list[str]:
    """Success at each validation until step ``last``; no lines where there was none."""
    return _table("after step", [(str(step), rate) for step, rate in validations(run) if step <= last])


def training_table(run: Run, last: int) -> list[str]:
    """Success of the training episodes until step ``last``, of as many parts of the training as there are rows; no lines where
    no episodes were kept."""
    episodes = run.episodes.of("train").valid()
    steps = np.unique(episodes.step[episodes.step <= last])
    rows: list[tuple[str, Rate | float]] = []
    for part in np.array_split(steps, min(MOST_ROWS, len(steps))) if len(steps) else ():
        rate = rate_of(episodes.where(np.isin(episodes.step, part)))
        assert rate is not None, "these steps have episodes"
        rows.append((str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}", rate))
    return _table("steps", rows)


def evaluation_table(results: Mapping[str, Any]) -> list[str]:
    """Success in an evaluation, per task and suite."""
    rows: list[tuple[str, Rate | float]] = []
    for suite in results["suites"]:
        rows += [(f"{t['task_id']} {t['instruction']}", Rate(t["successes"], t["episodes"])) for t in suite["tasks"]]
        rows.append((f"**{suite['suite']}**", Rate(suite["successes"], suite["episodes"])))
    return _table("task", rows)


def _table(first: str, rows: list[tuple[str, Rate | float]]) -> list[str]:
    """A line per rate, with a heading; no lines without rates."""
    head = [f"| {first} | successes | rate | 95 % interval |", "|---|---:|---:|---:|"]
    return head + [_row(label, rate) for label, rate in rows] if rows else []


def _row(label: str, rate: Rate | float) -> str:
    label = label.replace("|", r"\|")
    if not isinstance(rate, Rate):  # of a run whose episodes are gone
        return f"| {label} | – | {percent(rate)} % | – |"
    low, high = wilson_interval(rate.successes, rate.n)
    return f"| {label} | {rate.successes} of {rate.n} | {percent(rate.value)} % | {percent(low)}–{percent(high)} % |"
