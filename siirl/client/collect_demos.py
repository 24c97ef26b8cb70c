"""Collect demonstrations from a scripted expert in LIBERO or ManiSkill, for supervised fine-tuning.

Every (task, noise, trial) is tried up to twice, and successes become episodes of a LeRobotDataset v3.0 folder
(`siirl.data.lerobot`). Worker processes collect `TRIALS_PER_JOB` trials at a time, and this process adds what they bring to the
dataset. Episodes that it holds are not collected again, so an interrupted collection continues where it stopped and loses
the jobs that were under way.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from siirl.client.arguments import at_least, parse_ids, parse_noises, probability
from siirl.client.dataset_folder import claim, only_writer
from siirl.config.schema import EnvConfig
from siirl.data.lerobot import DatasetWriter
from siirl.data.lerobot.writer import LABELS, OUTCOME
from siirl.envs.base import ENVS
from siirl.envs.demonstrations import Expertise, Job, Settings, collect
from siirl.envs.libero.demonstrate import EXPERTISE as LIBERO
from siirl.envs.maniskill.demonstrate import EXPERTISE as MANISKILL

EXPERTS = {"libero": LIBERO, "maniskill": MANISKILL}
TRIALS_PER_JOB = 10
"""Trials that a worker collects with one simulator before it takes the next job: building one costs 2 episodes."""


def open_dataset(settings: Settings, expertise: Expertise) -> DatasetWriter:
    """The dataset to continue or to start; what a killed collection left half done is removed.

    Raises:
        ValueError: the folder holds another dataset, or one that was collected with other settings.
    """
    env, out = settings.env, settings.out
    wanted = {**expertise.describe(env), "seed": settings.seed}
    given = {"pushes": settings.pushes, "rollouts": settings.rollouts, "policy": str(settings.policy or "")}
    given |= {"max_steps": env.max_steps or 0}
    claim(out, wanted | {name: value for name, value in given.items() if value})
    size = (env.image_size, env.image_size)
    labels = LABELS | (OUTCOME if settings.rollouts else {})
    return DatasetWriter(out, expertise.fps, size, expertise.state_dim, expertise.action_dim, labels)


def plan_jobs(done: list[dict[str, float]], tasks: list[int], trials: list[int], noises: list[float]) -> list[Job]:
    """The jobs of what is not among the labels ``done`` (see `siirl.data.lerobot.writer.LABELS`)."""
    there = {(label["task_id"], label["trial_id"], np.float32(label["noise"])) for label in done}
    return [
        Job(task, noise, tuple(missing[i : i + TRIALS_PER_JOB]))
        for task in tasks
        for noise in noises
        if (missing := [i for i in trials if (task, i, np.float32(noise)) not in there])
        for i in range(0, len(missing), TRIALS_PER_JOB)
    ]


def run_jobs(settings: Settings, expertise: Expertise, dataset: DatasetWriter, jobs: list[Job], workers: int) -> int:
    """Collect in worker processes and add to the dataset, in the order of ``jobs`` (so the number of workers changes nothing),
    printing a line per job. Returns the number of demonstrations saved."""
    total = sum(len(job.trials) for job in jobs)
    tried = saved = 0
    # spawn: a process that is forked after OpenGL has started hangs
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for job, (shard, episodes) in zip(jobs, pool.map(partial(collect, expertise, settings), jobs), strict=True):
            dataset.append(shard)
            solved = sum(episode.labels.get("success", 1) for episode in shard.episodes)
            tried, saved = tried + len(job.trials), saved + len(shard.episodes)
            print(
                f"task {job.task_id} noise {job.noise:g} trials {job.trials[0]}-{job.trials[-1]}: {solved:g} of "
                f"{len(job.trials)} solved in {episodes} episodes | all: {saved} saved, {tried} of {total} tried",
                flush=True,
            )
    return saved


def check(env: EnvConfig, expertise: Expertise, tasks: list[int], trials: list[int], out: Path) -> None:
    """Refuse what cannot be collected, before a simulator is built.

    Raises:
        ValueError: an unknown suite, task or trial, a suite that the expert cannot solve, options of another simulator, or a
            file in the way.
    """
    defaults = EnvConfig()
    for name in sorted(ENVS.get(env.env_type).unused_keys):
        if getattr(env, name) != getattr(defaults, name):
            raise ValueError(f"{OPTIONS[name]} means nothing with --env {env.env_type}; leave it out")
    for task_id in tasks:
        expertise.check(env, task_id, trials)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")


def check_policy(args: argparse.Namespace) -> Path | None:
    """The policy that acts, if one is named. Raises ValueError where it cannot."""
    if args.policy is None:
        return None
    if not args.rollouts:
        raise ValueError("--policy acts in rollouts alone: nobody learns from it as from an expert; add --rollouts")
    if not (args.policy / "config.json").is_file():
        raise ValueError(f"--policy {args.policy} has no config.json; name a policy folder")
    return args.policy.absolute()


OPTIONS = {"antialiasing": "--no-antialiasing", "max_texture_size": "--max-texture-size", "camera_fov": "--camera-fov"}
"""Options that only one simulator has, by the key that they set."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command-line arguments."""
    parser = argparse.ArgumentParser(prog="siirl collect-demos", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--env", choices=sorted(EXPERTS), default="libero", help="the simulator")
    add("--suite", help="libero_spatial (default) or libero_object; with --env maniskill: PickCube-v1 (default)")
    add("--tasks", type=parse_ids, default=[0], help="tasks, e.g. 0,2 or 0-9")
    add("--trials", type=parse_ids, default=list(range(40)), help="initial states, e.g. 0-39")
    add("--noise", type=parse_noises, help="default: 0.2,0.1,0.0; with --env maniskill 0.1,0.05,0.0")
    add("--pushes", type=probability, default=0.0, help="chance per step that the hand is pushed away for four steps")
    add("--out", type=Path, required=True, help="folder of the demonstrations")
    add("--rollouts", action="store_true", help="record what was executed, and failures, for a world model")
    add("--policy", type=Path, help="with --rollouts: folder of a policy that acts in the expert's place")
    add("--max-steps", type=at_least(1), help="longest episode (default: the suite's)")
    add("--workers", type=at_least(1), default=1, help="processes, one simulator each")
    add("--image-size", type=at_least(16), default=256, help="side of the images, pixels")
    add("--antialiasing", action=argparse.BooleanOptionalAction, default=True, help="LIBERO: 4x multisampling")
    add("--max-texture-size", type=at_least(64), default=None, help="LIBERO: shrink textures to this side, pixels")
    add("--camera-fov", type=float, default=None, help="ManiSkill: opening angle of the camera, radians")
    add("--seed", type=at_least(0), default=0, help="seeds noise, and LIBERO's furniture")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Collect what the command line asks for; returns the exit code: 0 done, 2 for what cannot work here."""
    args = parse_args(arguments)
    expertise = EXPERTS[args.env]
    env = EnvConfig(
        env_type=args.env,
        env_name=args.suite or expertise.suite,
        image_size=args.image_size,
        antialiasing=args.antialiasing,
        max_texture_size=args.max_texture_size,
        camera_fov=args.camera_fov,
        max_steps=args.max_steps,
    )
    try:
        check(env, expertise, args.tasks, args.trials, args.out)
        settings = Settings(env, args.seed, args.out, args.pushes, args.rollouts, check_policy(args))
        with only_writer(args.out):
            dataset = open_dataset(settings, expertise)
            noises = args.noise or ([0.0] if args.policy else list(expertise.noises))
            jobs = plan_jobs(dataset.labels, args.tasks, args.trials, noises)
            saved = run_jobs(settings, expertise, dataset, jobs, args.workers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{saved} {'rollouts' if args.rollouts else 'demonstrations'} saved in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
