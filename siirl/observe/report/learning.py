"""The curves: success with intervals, rewards, lengths, and what the update tells."""

from collections.abc import Sequence

import numpy as np

from siirl.observe.report.axes import Axis, axis, percent, plain, steps_axis, whole
from siirl.observe.report.chart import Series, figure, line_chart
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.numbers import (
    Curve,
    mean_curve,
    pool_of,
    quartile_curve,
    training_curve,
    validation_curve,
)
from siirl.observe.report.run import Run

UPDATE = (
    ("actor/grad_norm", "Gradient norm", "Mean over the step's optimizer steps, before clipping."),
    ("actor/entropy", "Entropy", "Mean per ratio (algorithm.logprob_type), nats."),
    ("actor/approx_kl", "KL from the policy before the update", "Estimate per ratio, nats."),
    ("actor/clip_fraction", "Clipped ratios", "Share of the ratios whose gradient the clip stopped."),
    ("actor/loss", "Loss", "Clipped policy loss − entropy bonus + KL penalty, per ratio."),
    ("actor/lr", "Learning rate", "Of the step's last optimizer step."),
    (
        "actor/rollout_train_logprob_diff",
        "Log-prob, update against rollout",
        "0 up to rounding, else something is wrong.",
    ),
    ("actor/value_loss", "Value loss", "Huber loss per value."),
    ("critic/explained_variance", "Explained variance of the returns", "At most 1; 0 is what a constant explains."),
)
"""Metrics of the update: name, title, and how it is computed (docs/how_it_works.md says more)."""


def learning(run: Run) -> list[Html]:
    """The charts."""
    found = [success_chart(run)] if len(training_curve(run)) or len(validation_curve(run)) else []
    return [*found, *_rollout_charts(run), *_update_charts(run)]


def success_chart(run: Run) -> Html:
    """Training and validation success over the steps."""
    single = training_curve(run)
    pool = pool_of(len(single))
    train, tested = training_curve(run, pool), validation_curve(run)
    x = steps_axis(run.last_step, 0 if len(tested) and tested.step[0] == 0 else 1)
    series = [
        Series("training", "c1", train.step, train.value, train.low, train.high, dots=pool == 1),
        Series("validation", "c2", tested.step, tested.value, tested.low, tested.high, dots=True),
    ]
    if pool > 1:
        series.insert(0, Series("each step", "c1 faint", single.step, single.value, dots=True, line=False))
    keys = [("c1", "training, sampled")] if len(train) else []
    keys += [("c2", validation_label(run))] if len(tested) else []
    pooled = f" The line pools {pool} neighbouring steps; dots are single steps." if pool > 1 else ""
    known = "Bands are Wilson 95 % intervals of the episodes." if train.n is not None or tested.n is not None else ""
    how = (
        f"Share of the episodes that succeeded (training: without dropped ones). {known}{pooled} Episodes of a group start "
        "alike, so that the truth may lie outside a band more often than it says."
    )
    y = axis([], "success", percent, ends=(0.0, 1.0))
    chart = line_chart(series, x, y, success_tips([("training", single), ("validation", tested)]), tall=True)
    return figure("Success", chart, how, keys, wide=True)


def validation_label(run: Run) -> str:
    """How its validations act, where its config says."""
    sampled = run.config.get("actor_rollout_ref.rollout.val_kwargs.do_sample")
    return "validation" if sampled is None else f"validation, {'sampled' if sampled else 'greedy'}"


def curve_chart(title: str, curve: Curve, y: Axis, how: Child, color: str = "c1", what: str = "") -> Html:
    """One curve over the steps."""
    x = steps_axis(int(curve.step.max()), min(1, int(curve.step.min())))
    series = [Series(title, color, curve.step, curve.value, curve.low, curve.high, dots=len(curve) <= 40)]
    return figure(title, line_chart(series, x, y, tips_of(curve, y, what)), how)


def tips_of(curve: Curve, y: Axis, what: str = "") -> list[tuple[float, str]]:
    """What each step's place tells."""
    low, high = (end if end is not None else np.full(len(curve), np.nan) for end in (curve.low, curve.high))
    n = curve.n if curve.n is not None else np.zeros(len(curve), int)
    found = []
    for step, value, bottom, top, count in zip(curve.step, curve.value, low, high, n, strict=True):
        ends = f" [{y.form(bottom)}, {y.form(top)}]" if np.isfinite(bottom) else ""
        found.append((float(step), f"step {step}: {what}{y.form(value)}{ends}" + (f", n = {count}" if count else "")))
    return found


def success_tips(curves: Sequence[tuple[str, Curve]]) -> list[tuple[float, str]]:
    """What each step's place tells of several curves of success, with their names."""
    y = axis([], "", lambda value: percent(value, 1), ends=(0, 1))
    texts: dict[float, list[str]] = {}
    for name, curve in curves:
        for place, text in tips_of(curve, y, f"{name} "):
            texts.setdefault(place, []).append(text.partition(": ")[2])
    return [(place, f"step {place:.0f}: " + "; ".join(texts[place])) for place in sorted(texts)]


def _rollout_charts(run: Run) -> list[Html]:
    """Reward and length of the training episodes."""
    episodes = run.episodes.of("train").valid()
    if len(episodes):
        reward = mean_curve(episodes.step, episodes.column("reward").astype(float))
        length = quartile_curve(episodes.step, episodes.column("steps").astype(float))
        how = "Mean over the episodes that train, ± 1.96 standard errors."
        lengths = "Median over the training episodes, and the quartiles; simulator steps."
    else:
        reward, length = Curve(*run.metric("rollout/reward_mean")), Curve(*run.metric("rollout/episode_length"))
        how, lengths = "rollout/reward_mean of metrics.jsonl.", "rollout/episode_length of metrics.jsonl: the mean."
    found = []
    if len(reward):
        values = np.concatenate([reward.value, *(end for end in (reward.low, reward.high) if end is not None)])
        found.append(curve_chart("Reward", reward, axis(values, "reward", plain), how, what="mean "))
    if len(length):
        values = np.concatenate([[0.0], length.value, *(end for end in (length.low, length.high) if end is not None)])
        found.append(curve_chart("Episode length", length, axis(values, "steps", whole), lengths))
    return found


def _update_charts(run: Run) -> list[Html]:
    found = []
    for name, title, how in UPDATE:
        curve = Curve(*run.metric(name))
        if len(curve) and np.isfinite(curve.value).any():
            caption = [tag("code", name), ": ", how]
            found.append(curve_chart(title, curve, axis(curve.value, "", plain), caption, "c3"))
    return found
