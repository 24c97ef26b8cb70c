"""Episodes of the scripted expert, recorded as demonstrations.

The expert's actions are disturbed on their way to the simulator and stored undisturbed: the policy that learns from
them sees states off the ideal path, and how to come back (https://arxiv.org/abs/1703.09327).
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.lerobot import Episode, Shard, ShardWriter
from siirl.envs.libero import to_libero_gripper
from siirl.envs.libero.expert import PickAndPlace
from siirl.envs.libero.simulator import Simulator
from siirl.envs.libero.suites import default_max_steps, find_task

FPS = 20  # LIBERO's control frequency, Hz
STATE_DIM = 8
ATTEMPTS = 2
PARTIAL = ".partial-{}.mp4"
"""File of the frames of a job that is not part of the dataset yet, see `partial_file`."""


@dataclass(frozen=True)
class Settings:
    """What all demonstrations of one collection share.

    Attributes:
        env: suite and rendering.
        seed: seeds furniture and noise.
        out: folder of the dataset.
    """

    env: EnvConfig
    seed: int
    out: Path


@dataclass(frozen=True)
class Job:
    """Some trials of one task under one noise."""

    task_id: int
    noise: float
    trials: tuple[int, ...]


def partial_file(out: Path, job: Job) -> Path:
    """Where this process keeps the frames of ``job``. Another process may still write those of the same job: a worker whose
    parent was killed goes on until its job is done."""
    return out / PARTIAL.format(f"{os.getpid()}-{job.task_id}-{job.noise:g}-{job.trials[0]}")


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


def run_expert(
    simulator: Simulator, seed: int, trial_id: int, noise: float, attempt: int
) -> tuple[Episode, np.ndarray] | None:
    """One episode of the expert and its frames uint8 [L, H, W, 3]; None when it fails. Grippers are in LIBERO's convention
    (+1 closes), that of the published LIBERO datasets."""
    task = simulator.task
    rng = np.random.default_rng((seed, task.task_id, trial_id, round(1000 * noise), attempt))
    simulator.reset(trial_id, seed=int(rng.integers(2**31)))
    images, states, actions = [], [], []
    expert = PickAndPlace(simulator, choice=attempt).actions()
    for step, (wanted, disturbed) in enumerate(disturb(expert, noise, rng)):
        if step == default_max_steps(task.suite):
            return None
        images.append(simulator.render())
        states.append(simulator.state())
        actions.append(to_libero_gripper(wanted))
        if simulator.step(to_libero_gripper(disturbed)):
            break
    else:
        return None
    labels = {"task_id": task.task_id, "trial_id": trial_id, "noise": noise}
    return Episode(task.instruction, np.stack(states), np.stack(actions), labels), np.stack(images)


def collect(settings: Settings, job: Job) -> tuple[Shard, int]:
    """Collect a job's trials in this process: what was solved, with the frames in a file of its own, and the number of
    episodes run."""
    env = settings.env
    shard = ShardWriter(partial_file(settings.out, job), FPS, (env.image_size, env.image_size))
    episodes = 0
    with closing(
        Simulator(
            find_task(env.env_name, job.task_id),
            env.image_size,
            env.antialiasing,
            env.max_texture_size,
            env.num_steps_wait,
        )
    ) as simulator:
        for trial in job.trials:
            for attempt in range(ATTEMPTS):
                episodes += 1
                solved = run_expert(simulator, settings.seed, trial, job.noise, attempt)
                if solved is not None:
                    shard.add(*solved)
                    break
    return shard.close(), episodes
