"""The first lines of the page: what was run, and how it went in a few numbers."""

import itertools
import time
from dataclasses import dataclass

import numpy as np

from siirl.config.checks import EMBODIED, ENV
from siirl.observe.report.axes import count, percent, seconds
from siirl.observe.report.markup import Child, Html, join, tag
from siirl.observe.report.numbers import Rate, part, rate_of
from siirl.observe.report.run import Row, Run

ENDS = 0.1
"""Of the training steps, this share at either end is taken together where start and end of training are compared."""


def tile(label: str, value: Child, detail: Child, how: str) -> Html:
    """A number with its name, what belongs to it, and how it was computed."""
    parts = [tag("span", label, class_="label"), tag("strong", value), tag("span", detail, class_="detail")]
    return tag("div", parts, tag("p", how, class_="how"), class_="card tile")


def what(run: Run) -> str:
    """Algorithm, policy and tasks in a line."""
    config = run.config
    if not config:
        return "no config.yaml"
    if run.results is not None:
        return _evaluated(run, run.results)
    policy = (
        f"{config.get('actor_rollout_ref.embodied.embodied_type')} from {config.get('actor_rollout_ref.model.path')}"
    )
    suite = f"{config.get(f'{ENV}.env_name')}, {_tasks(config.get(f'{ENV}.task_ids'))}"
    if not run.is_training:
        return f"{policy}; {suite}"
    algorithm = f"{config.get('algorithm.reward')} reward, {config.get('algorithm.adv_estimator')} advantages"
    return f"{algorithm}; {policy}; {suite}; experiment {config.get('trainer.experiment_name')}"


def _evaluated(run: Run, results: Row) -> str:
    """What an evaluation is of, how it acts, and on what."""
    settings = results["settings"]
    temperature = f" at temperature {settings['evaluate.temperature']:g}" if results["mode"] == "sampled" else ""
    family, suites = settings[f"{EMBODIED}.embodied_type"], ", ".join(settings["evaluate.suites"])
    tasks = _tasks(settings[f"{ENV}.task_ids"])
    how = f"{results['mode']}{temperature}, {settings['evaluate.split']} trials"
    return f"evaluation of {results['policy']} ({family}), {how}; {suites}, {tasks}"


def _tasks(chosen: list[int] | None) -> str:
    return "all tasks" if chosen is None else "tasks " + ", ".join(map(str, chosen))


@dataclass(frozen=True)
class State:
    """How a run stands: a word for a badge, its colour class, and a sentence."""

    word: str
    color: str
    text: str


def state(run: Run) -> State:
    """From the last line of the journal that tells of a start or an end."""
    lines = [row for row in run.journal if row["kind"] in ("start", "end")]
    if not lines:
        return State("unknown", "muted", "the folder has no journal")
    starts = sum(row["kind"] == "start" for row in lines)
    begun = f"started {when(lines[0]['time'])}" + (f", resumed {starts - 1} ×" if starts > 1 else "")
    last = lines[-1]
    if last["kind"] == "start":
        return State("no end noted", "warn", f"{begun}; it was killed, or still runs")
    color = {"done": "good", "interrupted": "warn"}.get(last["how"], "bad")
    error = f": {last['error']}" if "error" in last else ""
    return State(last["how"], color, f"{begun}; ended {when(last['time'])}{error}")


def when(moment: float) -> str:
    """A time of day in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def tiles(run: Run) -> Html:
    """The headline numbers."""
    found = [*_success_tiles(run)]
    if run.is_training:
        found += [_steps_tile(run), _time_tile(run)]
    found += [_episodes_tile(run), _faults_tile(run)]
    return tag("div", found, class_="tiles")


def validations(run: Run) -> list[tuple[int, Rate | float]]:
    """Step and success of each validation, first to last: a `Rate` where there are episodes, else the number alone."""
    episodes = run.episodes.of("val")
    if len(episodes):
        found = {int(s): rate_of(episodes.where(episodes.step == s)) for s in np.unique(episodes.step)}
        return [(step, rate) for step, rate in found.items() if rate is not None]
    return [(int(step), float(value)) for step, value in zip(*run.metric("val/success_rate"), strict=True)]


def show(rate: Rate | float) -> str:
    """A rate in percent."""
    return percent(rate.value if isinstance(rate, Rate) else rate, 1)


def interval(rate: Rate | float) -> str:
    """Its interval and number of episodes, e.g. ``20–48 % of 40``."""
    if not isinstance(rate, Rate):
        return "no interval: the episodes were not kept"
    low, high = rate.interval
    return f"{low * 100:.0f}–{percent(high)} of {count(rate.n)}"


def _success_tiles(run: Run) -> list[Html]:
    found = []
    if tested := validations(run):
        (first, before), (last, after) = tested[0], tested[-1]
        how = "Validation episodes; Wilson 95 % intervals; a dropped episode counts as a failure."
        if first == last:
            found.append(tile("Validation success", show(after), f"after step {last}: {interval(after)}", how))
        else:
            detail = f"step {first}: {interval(before)}; step {last}: {interval(after)}"
            found.append(tile("Validation success", _change(before, after), detail, how))
    evaluated = rate_of(run.episodes.of("eval"))
    if evaluated is not None:
        how = "All episodes of the evaluation; Wilson 95 % interval; a dropped episode counts as a failure."
        found.append(tile("Success", show(evaluated), interval(evaluated), how))
    begun, ended = (rate_of(part(run, ENDS, last=end)) for end in (False, True))
    if begun is not None and ended is not None:
        how = (
            f"Training episodes of the first and the last {percent(ENDS)} of the steps, without dropped ones; sampled."
        )
        found.append(tile("Training success", _change(begun, ended), f"{interval(begun)}; {interval(ended)}", how))
    return found


def _change(before: Rate | float, after: Rate | float) -> Html:
    return join(show(before), tag("span", " → ", class_="arrow"), show(after))


def _steps_tile(run: Run) -> Html:
    skipped = int(max(run.metric("train/skipped_steps")[1], default=0))
    detail = f"{skipped} without an update: no group passed the filter" if skipped else "every step updated the policy"
    planned = run.config.get("trainer.total_training_steps")
    value = f"{run.last_step}" + (f" of {planned}" if planned is not None else "")
    return tile("Training steps", value, detail, "Last step in metrics.jsonl; train/skipped_steps.")


def _time_tile(run: Run) -> Html:
    times = run.metric("time/step")[1]
    detail = f"{seconds(float(np.median(times)))} a step (median)"
    how = "Sum of time/step: without the start of the workers and a validation before training."
    return tile("Time", seconds(float(times.sum())), detail, how)


def _episodes_tile(run: Run) -> Html:
    counts = {split: len(run.episodes.of(split)) for split in ("train", "val", "eval")}
    names = {"train": "training", "val": "validation", "eval": "evaluation"}
    if not any(counts.values()):
        return tile("Episodes", "—", "the run kept none", "Rows of episodes/.")
    shown = [f"{count(n)} {names[split]}" for split, n in counts.items() if n]
    steps = int(run.episodes.column("steps").sum())
    detail = f"{'; '.join(shown)}; {count(steps)} simulator steps"
    how = "Rows of episodes/: those that ran to their end."
    return tile("Episodes", count(sum(counts.values())), detail, how)


def _faults_tile(run: Run) -> Html:
    found = faults(run)
    shown = [f"{number} × {name}" for name, number in found.items() if number]
    how = "Sums over the run: retries and drop_reason of episodes/, metrics.jsonl, and the starts in journal.jsonl."
    return tile("Faults", f"{sum(found.values())}", "; ".join(shown) or "none", how)


def faults(run: Run) -> dict[str, int]:
    """What went wrong and was dealt with, by kind."""
    if len(run.episodes):
        retries = int(run.episodes.column("retries").sum())
        dropped = len(run.episodes) - len(run.episodes.valid())
    else:
        retries, dropped = int(run.total("env/retries")), int(run.total("env/dropped") + run.total("val/dropped"))
    return {
        "episode run again": retries,
        "episode dropped": dropped,
        "optimizer step that was not finite": int(run.total("actor/skipped_steps")),
        "checkpoint refused by the disk": int(run.total("checkpoint/failed")),
        "start after a kill, a crash or Ctrl-C": _broken_starts(run),
    }


def _broken_starts(run: Run) -> int:
    """Starts that follow one which did not end by being done."""
    marks = [row for row in run.journal if row["kind"] in ("start", "end")]
    return sum(now["kind"] == "start" and before.get("how") != "done" for before, now in itertools.pairwise(marks))
