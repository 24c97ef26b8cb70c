"""Collect demonstrations of LIBERO tasks from the scripted expert, for supervised fine-tuning.

Every (task, noise, trial) is tried up to twice, and successes are saved, one ``.npz`` each (`siirl.data.demos.Demo`).
Files that exist are not collected again, so an interrupted collection continues where it stopped.

The expert's actions are disturbed on their way to the simulator and stored undisturbed: the policy that learns from
them sees states off the ideal path, and how to come back (https://arxiv.org/abs/1703.09327).
"""

import argparse
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from siirl.client.arguments import at_least
from siirl.config.schema import EnvConfig
from siirl.data.demos import Demo
from siirl.envs.libero import to_libero_gripper
from siirl.envs.libero.expert import PickAndPlace
from siirl.envs.libero.simulator import Simulator
from siirl.envs.libero.suites import canonical_suite, default_max_steps, find_task, load_init_states

SOLVED = ("libero_spatial", "libero_object")
"""Suites whose tasks the expert solves; variants of them have longer names."""
ATTEMPTS = 2
TRIALS_PER_JOB = 20
"""Trials that a worker collects with one simulator before it takes the next job: building one costs 2 episodes."""


@dataclass(frozen=True)
class Settings:
    """What all demonstrations of one collection share.

    Attributes:
        env: suite and rendering.
        frame_every: steps between rendered frames.
        seed: seeds furniture and noise.
        out: folder of the demonstrations.
    """

    env: EnvConfig
    frame_every: int
    seed: int
    out: Path

    def path(self, task_id: int, trial_id: int, noise: float) -> Path:
        """Where a demonstration is saved."""
        return self.out / f"{canonical_suite(self.env.env_name)}_task{task_id}_trial{trial_id:02d}_noise{noise:g}.npz"


@dataclass(frozen=True)
class Job:
    """Some trials of one task under one noise."""

    task_id: int
    noise: float
    trials: tuple[int, ...]


def disturb(
    actions: Iterator[np.ndarray], noise: float, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (action wanted, action disturbed), float32 [7]; the gripper stays as it is.

    The disturbance is autoregressive with standard deviation ``noise``, n ← 0.8 n + 0.6 N(0, noise²): independent noise
    would average out over the arm's inertia.
    """
    offset = np.zeros(6)
    for action in actions:
        offset = 0.8 * offset + 0.6 * rng.normal(0.0, noise, 6)
        disturbed = action.copy()
        disturbed[:6] = np.clip(action[:6] + offset, -1, 1)
        yield action, disturbed


def run_expert(simulator: Simulator, settings: Settings, trial_id: int, noise: float, attempt: int) -> Demo | None:
    """One episode of the expert; None when it fails."""
    entropy = (settings.seed, simulator.task.task_id, trial_id, round(1000 * noise), attempt)
    rng = np.random.default_rng(entropy)
    simulator.reset(trial_id, seed=int(rng.integers(2**31)))
    first_frame = int(rng.integers(settings.frame_every))  # not always the same phase of an episode
    frame_steps, images, states, actions = [], [], [], []
    expert = PickAndPlace(simulator, choice=attempt).actions()
    for step, (wanted, disturbed) in enumerate(disturb(expert, noise, rng)):
        if step == default_max_steps(simulator.task.suite):
            return None
        if step % settings.frame_every == first_frame:
            frame_steps.append(step)
            images.append(simulator.render())
        states.append(simulator.state())
        actions.append(wanted)
        if simulator.step(to_libero_gripper(disturbed)):
            break
    else:
        return None
    task = simulator.task
    arrays = (np.array(frame_steps, dtype=np.int32), np.stack(images), np.stack(states), np.stack(actions))
    return Demo(task.suite, task.task_id, trial_id, task.instruction, *arrays)


def collect(settings: Settings, job: Job) -> tuple[int, int]:
    """Collect a job's trials in this process. Returns (demonstrations saved, episodes run)."""
    env = settings.env
    task = find_task(env.env_name, job.task_id)
    saved = episodes = 0
    with closing(
        Simulator(task, env.image_size, env.antialiasing, env.max_texture_size, env.num_steps_wait)
    ) as simulator:
        for trial in job.trials:
            for attempt in range(ATTEMPTS):
                episodes += 1
                demo = run_expert(simulator, settings, trial, job.noise, attempt)
                if demo is not None:
                    saved += 1
                    _save_atomically(demo, settings.path(job.task_id, trial, job.noise))
                    break
    return saved, episodes


def _save_atomically(demo: Demo, path: Path) -> None:
    partial = path.with_name(f".{os.getpid()}.partial.npz")
    demo.save(partial)
    partial.replace(path)


def plan_jobs(settings: Settings, tasks: list[int], trials: list[int], noises: list[float]) -> list[Job]:
    """The jobs of what is not there yet."""
    return [
        Job(task, noise, tuple(missing[i : i + TRIALS_PER_JOB]))
        for task in tasks
        for noise in noises
        if (missing := [i for i in trials if not settings.path(task, i, noise).exists()])
        for i in range(0, len(missing), TRIALS_PER_JOB)
    ]


def run_jobs(settings: Settings, jobs: list[Job], workers: int) -> int:
    """Collect in worker processes, printing a line per job. Returns the number of demonstrations saved."""
    total = sum(len(job.trials) for job in jobs)
    tried = saved = 0
    # spawn: a process that is forked after OpenGL has started hangs
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(collect, settings, job): job for job in jobs}
        for future in as_completed(futures):
            job, (successes, episodes) = futures[future], future.result()
            tried, saved = tried + len(job.trials), saved + successes
            print(
                f"task {job.task_id} noise {job.noise:g} trials {job.trials[0]}-{job.trials[-1]}: {successes} of "
                f"{len(job.trials)} solved in {episodes} episodes | all: {saved} saved, {tried} of {total} tried",
                flush=True,
            )
    return saved


def parse_ids(text: str) -> list[int]:
    """Numbers and inclusive ranges: ``0-3,7`` → [0, 1, 2, 3, 7].

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise argparse.ArgumentTypeError(
                f"{part!r} is no number or range; allowed: numbers and ranges such as 0-3,7"
            )
        ids.extend(range(int(first), int(last or first) + 1))
    return ids


def parse_noises(text: str) -> list[float]:
    """Numbers with commas between them.

    Raises:
        argparse.ArgumentTypeError: anything else, or a negative number.
    """
    try:
        noises = [float(part) for part in text.split(",")]
    except ValueError:
        noises = []
    if not noises or not all(0 <= noise < math.inf for noise in noises):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: numbers ≥ 0 such as 0.2,0.1,0.0")
    return noises


def check(suite: str, tasks: list[int], trials: list[int], out: Path) -> None:
    """Refuse what cannot be collected, before a simulator is built.

    Raises:
        ValueError: an unknown suite, task or trial, a suite that the expert cannot solve, or a file in the way.
    """
    for task_id in tasks:
        task = find_task(suite, task_id)
        if not task.suite.startswith(SOLVED):
            raise ValueError(f"--suite {suite}: the scripted expert cannot solve it; allowed: {' and '.join(SOLVED)}")
        available = len(load_init_states(task))
        if max(trials) >= available:
            raise ValueError(
                f"--trials: task {task_id} of {suite} has no trial {max(trials)}; allowed: 0 to {available - 1}"
            )
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command-line arguments."""
    parser = argparse.ArgumentParser(prog="python -m siirl.client.collect_demos", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--suite", default="libero_spatial", help="libero_spatial or libero_object")
    add("--tasks", type=parse_ids, default=[0], help="tasks, e.g. 0,2 or 0-9")
    add("--trials", type=parse_ids, default=list(range(40)), help="initial states, e.g. 0-39")
    add("--noise", type=parse_noises, default=[0.2, 0.1, 0.0], help="e.g. 0.2,0.1,0.0")
    add("--out", type=Path, required=True, help="folder of the demonstrations")
    add("--workers", type=at_least(1), default=1, help="processes, one simulator each")
    add("--image-size", type=at_least(16), default=256, help="side of the images, pixels")
    add("--frame-every", type=at_least(1), default=3, help="steps between frames")
    add("--antialiasing", action=argparse.BooleanOptionalAction, default=True, help="4x multisampling")
    add("--max-texture-size", type=at_least(64), default=None, help="shrink textures to this side, pixels")
    add("--seed", type=at_least(0), default=0, help="seeds furniture and noise")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Collect what the command line asks for; returns the exit code: 0 done, 2 for what cannot work here."""
    args = parse_args(arguments)
    env = EnvConfig(
        env_name=args.suite,
        image_size=args.image_size,
        antialiasing=args.antialiasing,
        max_texture_size=args.max_texture_size,
    )
    try:
        check(args.suite, args.tasks, args.trials, args.out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(env, args.frame_every, args.seed, args.out)
    saved = run_jobs(settings, plan_jobs(settings, args.tasks, args.trials, args.noise), args.workers)
    print(f"{saved} demonstrations saved in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
