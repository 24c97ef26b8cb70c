"""Make a LeRobotDataset v3.0 of an evaluation's episodes, with every step's picture, state, action, reward and success.

An evaluation keeps the actions; its episodes are run again from them and must end as they did. Actions are in the policy's
convention (gripper 1 open, 0 closed), which ``siirl sft`` calls ``--gripper open``. A folder that was begun is gone on with.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from siirl.client.arguments import at_least
from siirl.client.dataset_folder import claim, only_writer
from siirl.config.environments import validation_env
from siirl.config.load import read_config
from siirl.config.schema import EnvConfig
from siirl.data.lerobot import Columns, DatasetWriter
from siirl.data.lerobot.layout import INFO, read_info
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.replay import FEATURES, Recorded, replay_all
from siirl.observe.episodes import read_episodes
from siirl.observe.results import read_results
from siirl.training.checkpoint import CONFIG

OUTCOMES = {"all": (True, False), "success": (True,), "failure": (False,)}
"""Which episodes are wanted."""
EPISODES_PER_JOB = 10
"""Episodes that a worker replays with one simulator before it takes the next job."""


def main(arguments: list[str] | None = None) -> int:
    """Export what the command line asks for; returns the exit code: 0 done, 1 when episodes did not end as they had, 2 for what
    cannot work here."""
    given = parse_args(arguments)
    try:
        env, episodes = recorded(given.evaluation, given.suite, OUTCOMES[given.outcome])
        with only_writer(given.out):
            saved, lost = export(env, episodes, given)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{saved} episodes in {given.out}")
    for name in lost:
        print(f"{name} did not end as in the evaluation and is left out: its simulator does not repeat itself")
    return 1 if lost else 0


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    """Command-line arguments."""
    parser = argparse.ArgumentParser(prog="siirl export-episodes", description=__doc__)
    parser.add_argument("evaluation", type=Path, metavar="EVALUATION", help="folder of an evaluation")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the dataset")
    parser.add_argument("--suite", help="whose episodes, where the evaluation is of several")
    parser.add_argument("--outcome", choices=sorted(OUTCOMES), default="all", help="which episodes")
    parser.add_argument("--workers", type=at_least(1), default=1, help="processes, one simulator each")
    parser.add_argument("--fps", type=at_least(1), default=20, help="steps per second: 20 in LIBERO and ManiSkill")
    return parser.parse_args(arguments)


def recorded(folder: Path, suite: str | None, outcomes: Sequence[bool]) -> tuple[EnvConfig, list[Recorded]]:
    """The simulator's settings and an evaluation's episodes of a suite, task by task.

    Raises:
        ValueError: no complete evaluation, several suites and none named, or no episode with these outcomes.
    """
    results = read_results(folder)
    if not results["complete"]:
        raise ValueError(
            f"the evaluation in {folder} is not complete; let it end first: siirl evaluate goes on with it"
        )
    suites = [one["suite"] for one in results["suites"]]
    if suite not in (suites if len(suites) > 1 else (None, *suites)):
        raise ValueError(f"--suite is {suite}; allowed: {', '.join(suites)}. A dataset is of one suite: name it")
    rows = [row for row in read_episodes(folder).to_pylist() if row["suite"] == (suite or suites[0])]
    rows = [row for row in rows if row["drop_reason"] is None and row["success"] in outcomes]
    if not rows:
        raise ValueError(f"no episode in {folder} has the outcome that --outcome names; name another, or leave it out")
    if any(row["actions"] is None for row in rows):
        raise ValueError(f"{folder} is of a version of siirl that kept no actions; evaluate again into another folder")
    reading = read_config(Path(CONFIG).stem, [], str(folder))
    found = sorted(map(_recorded, rows), key=lambda e: (e.spec.task_id, e.spec.trial_id, e.spec.index))
    return replace(validation_env(reading.config.actor_rollout_ref.embodied), env_name=found[0].spec.suite), found


def _recorded(row: dict[str, Any]) -> Recorded:
    names = ("suite", "task_id", "trial_id", "instruction", "group_id", "index", "env_seed", "action_seed")
    spec = EpisodeSpec(**{name: row[name] for name in names}, max_steps=row["steps"])
    return Recorded(spec, np.array(row["actions"], np.float32).reshape(row["steps"], -1), row["success"])


def export(env: EnvConfig, episodes: Sequence[Recorded], given: argparse.Namespace) -> tuple[int, list[str]]:
    """Replay in worker processes and add to the dataset, in order, so that the number of workers changes nothing.

    Returns:
        How many episodes the dataset has, and the names of those that did not end as before.

    Raises:
        ValueError: the folder holds something else.
    """
    suite = episodes[0].spec.suite
    origin = {"evaluation": str(given.evaluation.resolve()), "suite": suite, "outcome": given.outcome, "fps": given.fps}
    claim(given.out, origin)
    open_dataset = partial(DatasetWriter, given.out, given.fps, (env.image_size, env.image_size), labels=FEATURES)
    dataset = None
    if (given.out / INFO).exists():
        info = read_info(given.out, Columns())
        dataset = open_dataset(info.state_dim, info.action_dim)
    lost: list[str] = []
    # spawn: a process that is forked after OpenGL has started hangs
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        jobs = list(plan_jobs(episodes, dataset.labels if dataset else []))
        for shard, others in pool.map(partial(replay_all, env, given.fps, given.out), jobs):
            if dataset is None and shard.episodes:
                first = shard.episodes[0]
                dataset = open_dataset(first.states.shape[1], first.actions.shape[1])
            if dataset is not None:
                dataset.append(shard)
                print(f"{len(dataset.labels)} of {len(episodes)} episodes", flush=True)
            lost += others
    return len(dataset.labels) if dataset else 0, lost


def plan_jobs(episodes: Sequence[Recorded], done: Sequence[Mapping[str, float]]) -> Iterator[list[Recorded]]:
    """What is not among the labels ``done``, task by task, as some simulator is to replay it."""
    there = {(label["task_id"], label["trial_id"], label["repetition"]) for label in done}
    missing = [e for e in episodes if (e.spec.task_id, e.spec.trial_id, e.spec.index) not in there]
    for _, task in groupby(missing, key=lambda episode: episode.spec.task_id):
        left = list(task)
        yield from (left[i : i + EPISODES_PER_JOB] for i in range(0, len(left), EPISODES_PER_JOB))


if __name__ == "__main__":
    sys.exit(main())
