"""Small runs for tests: their command lines, what they log, and the weights that they leave behind."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from siirl.client.main_dag import manifests
from siirl.client.preflight import preflight
from siirl.config.load import parse_command_line
from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.executor import Executor
from siirl.dag.graph import Graph, Node, NodeOutput
from siirl.dag.pipelines import build_graph, estimate_advantages
from siirl.dag.session import Session, total_steps
from siirl.data.trajectory import Episode, EpisodeSummary
from siirl.observe.progress import Progress
from siirl.training.dcp import MODEL, load_tensors
from siirl.workers.base import Workers
from siirl.workers.launch import launch

ENV = "actor_rollout_ref.embodied.env"
SMALL: dict[str, Any] = {
    "algorithm.reward": "sparse",
    "algorithm.embodied_sampling.filter_accuracy": "false",
    "actor_rollout_ref.rollout.n": 2,
    "actor_rollout_ref.actor.optim.lr": 0.002,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 1,
    f"{ENV}.env_name": "libero_spatial",
    f"{ENV}.task_ids": "[0]",
    f"{ENV}.max_steps": 16,
    f"{ENV}.image_size": 64,
    f"{ENV}.antialiasing": "false",
    f"{ENV}.max_texture_size": 64,
    f"{ENV}.num_trials_per_task": 6,
    f"{ENV}.num_holdout_trials": 1,
    f"{ENV}.num_steps_wait": 2,
    "data.train_batch_size": 2,
    "trainer.total_training_steps": 2,
    "trainer.test_freq": -1,
    "trainer.save_freq": 1,
    "trainer.val_before_train": "false",
    "trainer.logger": "[]",
    "trainer.report": "false",
    "trainer.cpu_threads": 1,
}
TOY = {f"{ENV}.env_type": "toy", f"{ENV}.env_name": "toy", f"{ENV}.max_steps": 24, f"{ENV}.image_size": 32}
EXACT = {"trainer.deterministic": "true", "actor_rollout_ref.model.dtype": "fp32"}
INLINE = {"trainer.backend": "inline", f"{ENV}.num_envs": 1}
GENTLE = {"actor_rollout_ref.actor.optim.lr": 1e-5}
"""With larger steps a rounding difference grows into another training."""
BY_SEED = {"dag.custom_pipeline_fn": "tests.workers.runs:rewarded_by_seed"}


def command_line(folder: Path, policy: Path, *settings: dict[str, Any]) -> list[str]:
    """Arguments of a small LIBERO run in ``folder``; later settings win."""
    values = SMALL | {
        "actor_rollout_ref.model.path": policy,
        "data.train_files": folder / "train.parquet",
        "data.val_files": folder / "validate.parquet",
        "trainer.default_local_dir": folder,
    }
    for more in settings:
        values = values | more
    return ["--config-name=embodied_srpo_trainer", *(f"{key}={value}" for key, value in values.items())]


def log_of(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The lines without what depends on the machine."""
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def weights_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint: weights, optimizer, counters."""
    checkpoint = folder / f"global_step_{step}"
    entries = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries.items()}
    load_tensors(checkpoint, tensors)
    return tensors


def assert_same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def assert_trained_alike(left: Path, right: Path, start: Path, step: int = 2) -> None:
    """The same weights but for the order in which ranks add up their gradients."""
    assert learning_gap(weights_of(left, step), weights_of(right, step), start) < 0.01


def learning_gap(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], start: Path) -> float:
    """How far weights are apart, as a part of what was learned from the policy folder ``start``. AdamW makes full steps of
    gradients that are 0 but for rounding, so that single weights may differ by much more than all taken together."""
    assert ours.keys() == theirs.keys()
    before = load_file(start / "model.safetensors")
    names = [name for name in ours if name.startswith(MODEL)]
    gap = sum(float((ours[name] - theirs[name]).square().sum()) for name in names)
    learned = sum(float((theirs[name] - before[name.removeprefix(MODEL)]).square().sum()) for name in names)
    assert learned > 0
    return (gap / learned) ** 0.5


def rewarded_by_seed(config: Config) -> Graph:
    """A pipeline for policies that never succeed: an episode's reward is derived from its action seed."""

    def reward(episodes: Sequence[Episode], config: Config) -> NodeOutput:
        return NodeOutput({"reward": [e.summary.spec.action_seed % 1000 / 1000 for e in episodes]})

    return Graph(
        (
            Node("rollout", "rollout", "run", per="episode"),
            Node("reward", "driver", reward, per="batch", inputs=("rollout",)),
            Node("advantage", "driver", estimate_advantages, per="batch", inputs=("reward",)),
            Node("update", "actor", "update", per="batch", inputs=("advantage",)),
        )
    )


def configured(argv: list[str]) -> Config:
    """The checked config of a command line."""
    return parse_command_line(argv, preflight)


@contextmanager
def started(config: Config) -> Iterator[tuple[Executor, Workers]]:
    """The executor and workers of a run, without its session."""
    plan = compile_plan(build_graph(config), config)
    workers = launch(config, plan)
    try:
        yield Executor(plan, config, workers, lambda summary: None), workers
    finally:
        workers.close()


@contextmanager
def opened(
    config: Config, on_episode: Callable[[EpisodeSummary], None] = lambda summary: None
) -> Iterator[tuple[Session, Executor, Workers]]:
    """A whole run, ready to train; ``on_episode`` is called for each finished episode."""
    prompts = manifests(config)
    with started(config) as (executor, workers):
        progress = Progress(total_steps(config, len(prompts[0])), enabled=False)
        session = Session(config, workers, prompts, progress)
        executor.on_episode = on_episode
        yield session, executor, workers
        session.close()
