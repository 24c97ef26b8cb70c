"""Does it learn? Trains small start policies with several algorithms, and measures all of them on held-out initial states.

``python -m benchmarks.learning`` does so on LIBERO (SRPO, and GRPO on sparse success: half an hour each on two cores), and
``python -m benchmarks.learning pickcube`` on ManiSkill's PickCube (PPO and GRPO with OpenVLA-OFT, PPO with OpenVLA), and
``python -m benchmarks.learning starvla`` on LIBERO with the small QwenOFT that is shipped (GRPO).
Runs of a study have the same seeds and prompts. Then their start policies and their results are evaluated on initial states that
no demonstration and no training episode used: the same episodes for all, greedily and sampled at the rollout's temperature. Runs
resume when called again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.common import print_table, write_result
from siirl.client.main_dag import manifests
from siirl.config.load import load_config
from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.data.sampler import episode_specs
from siirl.data.trajectory import EpisodeSpec
from siirl.observe.metrics import wilson_interval
from siirl.policies.base import Sampling
from siirl.workers.ray_workers import RayWorkers

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MODES = {"sampled, T=1": True, "greedy": False}
GREYS = ["#8c8c8c", "#bfbfbf"]
COLOURS = ["#1f6fb4", "#d9822b", "#3a923a", "#b04a8b"]


@dataclass(frozen=True)
class Run:
    """A training run of a study.

    Attributes:
        name: in tables and pictures.
        folder: its run folder, in the study's.
        config: name of the config.
        overrides: what differs from it.
        start: name of the policy that it starts from.
    """

    name: str
    folder: str
    config: str
    overrides: tuple[str, ...] = ()
    start: str = "start"


@dataclass(frozen=True)
class Study:
    """Runs to compare.

    Attributes:
        runs: their names differ.
        result, picture: where to write.
        steps: training steps of each run.
        seeds: episodes per held-out state and mode.
    """

    runs: tuple[Run, ...]
    result: str
    picture: str
    steps: int
    seeds: int


QWEN_OFT = (
    "data.train_batch_size=4",
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=8",
)
"""As many episodes a step as in the quickstart, from the small overlay."""
STUDIES = {
    "libero": Study(
        (
            Run("SRPO", "srpo", "quickstart"),
            Run("GRPO, sparse reward", "sparse", "quickstart", ("algorithm.reward=sparse",)),
        ),
        "learning",
        "docs/learning.png",
        steps=24,
        seeds=5,
    ),
    "pickcube": Study(
        (
            Run("PPO, OpenVLA-OFT", "ppo_oft", "maniskill_ppo_openvlaoft_cpu_small", start="start, OpenVLA-OFT"),
            Run("GRPO, OpenVLA-OFT", "grpo_oft", "maniskill_grpo_openvlaoft_cpu_small", start="start, OpenVLA-OFT"),
            Run("PPO, OpenVLA", "ppo_openvla", "maniskill_ppo_openvla_cpu_small", start="start, OpenVLA"),
        ),
        "learning_pickcube",
        "docs/learning_pickcube.png",
        steps=24,
        seeds=1,
    ),
    "starvla": Study(
        (Run("GRPO, QwenOFT", "grpo", "libero_spatial_grpo_starvla_cpu_small", QWEN_OFT),),
        "learning_starvla",
        "docs/learning_starvla.png",
        steps=24,
        seeds=5,
    ),
}


def main() -> None:
    """Train, evaluate, write the study's JSON and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", choices=sorted(STUDIES), default="libero")
    parser.add_argument("--steps", type=int, help="training steps of each run")
    parser.add_argument("--seeds", type=int, help="episodes per held-out state and mode")
    parser.add_argument("--only", nargs="+", metavar="FOLDER", help="of the study's runs, those in these folders")
    parser.add_argument("--folder", type=Path, help="default: runs/<result>")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="for all runs")
    given = parser.parse_args()
    study = STUDIES[given.study]
    steps, seeds = given.steps or study.steps, given.seeds or study.seeds
    folder: Path = given.folder or Path("runs") / study.result
    runs = [run for run in study.runs if given.only is None or run.folder in given.only]
    curves = {run.name: train(run, folder, steps, given.set) for run in runs}
    cells = evaluate(runs, folder, steps, seeds, given.set)
    settings = {"steps": steps, "seeds": seeds, "overrides": given.set}
    print(write_result(study.result, {"settings": settings, "cells": cells, "curves": curves}))
    print_table(
        "success on held-out initial states",
        ["policy", "mode", "successes", "rate", "Wilson 95 %"],
        [
            [c["policy"], c["mode"], f"{c['successes']}/{c['episodes']}", _percent(c["rate"]), _interval(c)]
            for c in cells
        ],
    )
    plot(curves, cells, Path(study.picture))


def train(run: Run, folder: Path, steps: int, overrides: Sequence[str]) -> list[dict[str, float]]:
    """Train through the command line; returns the lines of its metrics.jsonl."""
    command = [sys.executable, "-m", "siirl.client.main_dag", f"--config-name={run.config}"]
    subprocess.run([*command, *settings(run, folder, steps), *overrides], check=True)
    return [json.loads(line) for line in (folder / run.folder / "metrics.jsonl").read_text().splitlines()]


def settings(run: Run, folder: Path, steps: int) -> list[str]:
    """What differs from the run's config: its length and folders, and that only this script evaluates."""
    return [
        *run.overrides,
        f"trainer.total_training_steps={steps}",
        f"trainer.default_local_dir={folder / run.folder}",
        f"data.train_files={folder}/train.parquet",
        f"data.val_files={folder}/validate.parquet",
        "trainer.save_freq=4",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
    ]


def evaluate(
    runs: Sequence[Run], folder: Path, steps: int, seeds: int, overrides: Sequence[str]
) -> list[dict[str, Any]]:
    """Success of the start policies and of the results: ``seeds`` episodes per held-out state, the same for everybody.

    Cells are kept in ``<folder>/cells.json`` as they come, and not measured twice.
    """
    file = folder / "cells.json"
    cells: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    starts = {run.start: run for run in runs}
    wanted = {**{name: (run, 0) for name, run in starts.items()}, **{run.name: (run, steps) for run in runs}}
    for name, (run, trained) in wanted.items():
        config = load_config(run.config, [*settings(run, folder, steps), *overrides])
        specs = held_out(config, seeds)
        missing = [mode for mode in MODES if not any(_is(cell, name, mode, trained, len(specs)) for cell in cells)]
        if not missing:
            continue
        workers = RayWorkers(config, compile_plan(build_graph(config), config))
        if trained:
            workers.submit("load", (folder / run.folder / f"global_step_{trained}").absolute()).result()
        workers.sync(0)
        for mode in missing:
            sampling = Sampling(MODES[mode], config.actor_rollout_ref.rollout.temperature)
            stream = workers.rollout(specs, sampling, keep=False, after=0, expected_steps={})
            cells.append(_cell(name, mode, trained, [e.summary for e in stream]))
            file.write_text(json.dumps(cells, indent=1))
            print(cells[-1], flush=True)
        workers.close()
    episodes = len(held_out(load_config(runs[0].config, [*settings(runs[0], folder, steps), *overrides]), seeds))
    return [c for m in MODES for p, (_, s) in wanted.items() for c in cells if _is(c, p, m, s, episodes)]


def held_out(config: Config, seeds: int) -> list[EpisodeSpec]:
    """Episodes from the validation prompts."""
    prompts = manifests(config)[1]
    return [s for seed in range(seeds) for s in episode_specs(prompts, n=1, seed=1000 + seed, step=None)]


def _is(cell: dict[str, Any], policy: str, mode: str, steps: int, episodes: int) -> bool:
    """Whether a measured cell is the one wanted; a start policy has no training steps."""
    return (cell["policy"], cell["mode"], cell["steps"], cell["episodes"]) == (policy, mode, steps, episodes)


def _cell(policy: str, mode: str, steps: int, episodes: list) -> dict[str, Any]:
    successes, n = sum(e.success for e in episodes), len(episodes)
    tasks = sorted({e.spec.task_id for e in episodes})
    per_task = {t: [e.success for e in episodes if e.spec.task_id == t] for t in tasks}
    low, high = wilson_interval(successes, n)
    return {
        "policy": policy,
        "mode": mode,
        "steps": steps,
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
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    untrained = [policy for policy in policies if policy not in curves]
    colours = dict(zip(untrained, GREYS, strict=False)) | dict(zip(curves, COLOURS, strict=False))
    for name, rows in curves.items():
        steps, rates = [r["step"] for r in rows], [100 * r["rollout/success_rate"] for r in rows]
        smooth = [sum(rates[max(0, i - 2) : i + 3]) / len(rates[max(0, i - 2) : i + 3]) for i in range(len(rates))]
        left.plot(steps, rates, ".", color=colours[name], alpha=0.4)
        left.plot(steps, smooth, color=colours[name], label=name)
    left.set(xlabel="training step", ylabel="success of the rollouts, %", ylim=(0, 100), title="training episodes")
    left.legend(frameon=False)
    for cell in cells:
        mode = list(MODES).index(cell["mode"])
        x = mode * (len(policies) + 1) + policies.index(cell["policy"])
        rate, errors = 100 * cell["rate"], [[100 * (cell["rate"] - cell["low"])], [100 * (cell["high"] - cell["rate"])]]
        right.bar(x, rate, color=colours[cell["policy"]], label=cell["policy"] if mode == 0 else None)
        right.errorbar(x, rate, errors, color="black", capsize=3)
        right.text(x, 2, f"{rate:.0f}", ha="center", color="white", weight="bold")
    middles = [mode * (len(policies) + 1) + (len(policies) - 1) / 2 for mode in range(len(MODES))]
    right.set(xticks=middles, xticklabels=list(MODES), ylim=(0, 100), ylabel="success, %")
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
