"""Does it learn? Trains the shipped start policy with SRPO and with GRPO on sparse success, and measures both on held-out states.

``python -m benchmarks.learning --steps 24`` trains both from the same weights, seeds and prompts (half an hour each on two
cores), then evaluates the start policy and both results on initial states that no demonstration and no training episode
used: the same episodes for all, greedily and sampled at the rollout's temperature. Runs resume when called again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.common import print_table, write_result
from siirl.client.main_dag import manifests
from siirl.config.load import load_config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.data.sampler import episode_specs
from siirl.observe.metrics import wilson_interval
from siirl.policies.base import Sampling
from siirl.workers.ray_workers import RayWorkers

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ALGORITHMS = {"SRPO": "srpo", "GRPO, sparse reward": "sparse"}
POLICIES = {"start": None, **ALGORITHMS}
MODES = {"sampled, T=1": True, "greedy": False}
COLOURS = {"start": "#8c8c8c", "SRPO": "#1f6fb4", "GRPO, sparse reward": "#d9822b"}


def main() -> None:
    """Train, evaluate, write ``results/learning.json`` and ``docs/learning.png``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24, help="training steps of each run")
    parser.add_argument("--seeds", type=int, default=5, help="episodes per held-out state and mode")
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for both runs")
    given = parser.parse_args()
    curves = {name: train(reward, given.folder, given.steps, given.overrides) for name, reward in ALGORITHMS.items()}
    cells = evaluate(given.folder, given.steps, given.seeds, given.overrides)
    overrides = {"steps": given.steps, "overrides": given.overrides}
    print(write_result("learning", {"settings": overrides, "cells": cells, "curves": curves}))
    print_table(
        "success on held-out initial states",
        ["policy", "mode", "successes", "rate", "Wilson 95 %"],
        [
            [c["policy"], c["mode"], f"{c['successes']}/{c['episodes']}", _percent(c["rate"]), _interval(c)]
            for c in cells
        ],
    )
    plot(curves, cells, Path("docs/learning.png"))


def train(reward: str, folder: Path, steps: int, overrides: list[str]) -> list[dict[str, float]]:
    """Train with one reward through the command line; returns the lines of its metrics.jsonl."""
    run = folder / reward
    command = [
        sys.executable,
        "-m",
        "siirl.client.main_dag",
        "--config-name=quickstart",
        *settings(folder, reward),
        *overrides,
    ]
    subprocess.run([*command, f"trainer.total_training_steps={steps}"], check=True)
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def settings(folder: Path, reward: str) -> list[str]:
    """What differs from the quickstart: its folders, and that only this script evaluates."""
    return [
        f"algorithm.reward={reward}",
        f"trainer.default_local_dir={folder / reward}",
        f"data.train_files={folder}/train.parquet",
        f"data.val_files={folder}/validate.parquet",
        "trainer.save_freq=4",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
    ]


def evaluate(folder: Path, steps: int, seeds: int, overrides: list[str]) -> list[dict[str, Any]]:
    """Success of the start policy and of both results: ``seeds`` episodes per held-out state, the same for everybody.

    Cells are kept in ``<folder>/cells.json`` as they come, and not measured twice.
    """
    file = folder / "cells.json"
    cells: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    config = load_config("quickstart", [*settings(folder, "srpo"), *overrides])
    prompts = manifests(config)[1]
    specs = [s for seed in range(seeds) for s in episode_specs(prompts, n=1, seed=1000 + seed, step=None)]
    missing = [(p, m) for m in MODES for p in POLICIES if not any(_is(c, p, m, steps, len(specs)) for c in cells)]
    for policy in dict.fromkeys(policy for policy, _ in missing):
        workers = RayWorkers(config, compile_plan(build_graph(config), config))
        if (reward := POLICIES[policy]) is not None:
            workers.submit("load", folder / reward / f"global_step_{steps}").result()
        for mode in [m for p, m in missing if p == policy]:
            stream = workers.rollout(specs, Sampling(MODES[mode], 1.0), keep=False)
            cells.append(_cell(policy, mode, steps, [e.summary for e in stream]))
            file.write_text(json.dumps(cells, indent=1))
            print(cells[-1], flush=True)
        workers.close()
    return [c for m in MODES for p in POLICIES for c in cells if _is(c, p, m, steps, len(specs))]


def _is(cell: dict[str, Any], policy: str, mode: str, steps: int, episodes: int) -> bool:
    """Whether a measured cell is the one wanted; the start policy has no training steps."""
    wanted = (policy, mode, 0 if policy == "start" else steps, episodes)
    return (cell["policy"], cell["mode"], cell["steps"], cell["episodes"]) == wanted


def _cell(policy: str, mode: str, steps: int, episodes: list) -> dict[str, Any]:
    successes, n = sum(e.success for e in episodes), len(episodes)
    tasks = sorted({e.spec.task_id for e in episodes})
    per_task = {t: [e.success for e in episodes if e.spec.task_id == t] for t in tasks}
    low, high = wilson_interval(successes, n)
    return {
        "policy": policy,
        "mode": mode,
        "steps": 0 if policy == "start" else steps,
        "successes": successes,
        "episodes": n,
        "rate": successes / n,
        "low": low,
        "high": high,
        "per_task": {str(t): f"{sum(s)}/{len(s)}" for t, s in per_task.items()},
    }


def plot(curves: dict[str, list[dict[str, float]]], cells: list[dict[str, Any]], path: Path) -> None:
    """Left: success of the training rollouts per step. Right: held-out success before and after, with intervals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), gridspec_kw={"width_ratios": [3, 2]})
    for name, rows in curves.items():
        steps, rates = [r["step"] for r in rows], [100 * r["rollout/success_rate"] for r in rows]
        smooth = [sum(rates[max(0, i - 2) : i + 3]) / len(rates[max(0, i - 2) : i + 3]) for i in range(len(rates))]
        left.plot(steps, rates, ".", color=COLOURS[name], alpha=0.4)
        left.plot(steps, smooth, color=COLOURS[name], label=name)
    left.set(
        xlabel="training step",
        ylabel="success of the rollouts, %",
        ylim=(0, 100),
        title="training episodes (32 a step)",
    )
    left.legend(frameon=False)
    for i, cell in enumerate(cells):
        mode = list(MODES).index(cell["mode"])
        x = mode * 4 + list(COLOURS).index(cell["policy"])
        rate, errors = 100 * cell["rate"], [[100 * (cell["rate"] - cell["low"])], [100 * (cell["high"] - cell["rate"])]]
        right.bar(x, rate, color=COLOURS[cell["policy"]], label=cell["policy"] if i < 6 and mode == 0 else None)
        right.errorbar(x, rate, errors, color="black", capsize=3)
        right.text(x, 2, f"{rate:.0f}", ha="center", color="white", weight="bold")
    right.set(xticks=[1, 5], xticklabels=list(MODES), ylim=(0, 100), ylabel="success, %")
    right.set_title(f"held-out initial states ({cells[0]['episodes']} episodes, Wilson 95 %)")
    right.legend(frameon=False, loc="upper center", ncol=3, bbox_to_anchor=(0.5, -0.1), columnspacing=1)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


def _interval(cell: dict[str, Any]) -> str:
    return f"{100 * cell['low']:.0f}–{100 * cell['high']:.0f}"


if __name__ == "__main__":
    main()
