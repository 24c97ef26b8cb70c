"""Evaluations of a tiny policy in the toy simulator, in this process."""

from pathlib import Path
from typing import Any

from siirl.client.evaluate import main
from siirl.observe.episodes import EpisodeRow, read_episodes
from tests.workers.runs import ENV

TOY: dict[str, Any] = {
    f"{ENV}.env_type": "toy",
    f"{ENV}.env_name": "toy",
    f"{ENV}.max_steps": 24,
    f"{ENV}.image_size": 32,
    f"{ENV}.num_envs": 1,
    f"{ENV}.num_trials_per_task": 4,
    f"{ENV}.task_ids": "[0,1]",
    "actor_rollout_ref.model.dtype": "fp32",
    "trainer.backend": "inline",
    "trainer.logger": "[]",
    "trainer.report": "false",
    "trainer.deterministic": "true",
    "evaluate.do_sample": "true",  # greedily the tiny policy always does the same
}


def arguments(folder: Path, policy: Path, *settings: dict[str, Any]) -> list[str]:
    """A command line; later settings win."""
    values = dict(TOY)
    for more in settings:
        values |= more
    return [str(policy), f"evaluate.folder={folder}", *(f"{key}={value}" for key, value in values.items())]


def evaluate(folder: Path, policy: Path, *settings: dict[str, Any]) -> list[EpisodeRow]:
    """Run it; its episodes in the order in which they ended."""
    assert main(arguments(folder, policy, *settings)) == 0
    return rows(folder)


def rows(folder: Path) -> list[EpisodeRow]:
    return [EpisodeRow(**values) for values in read_episodes(folder).to_pylist()]
