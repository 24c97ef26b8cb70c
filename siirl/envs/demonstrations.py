"""Episodes of scripted experts, recorded as demonstrations: what is the same for every simulator.

The expert's actions are disturbed on their way to the simulator and stored undisturbed: the policy that learns from
them sees states off the ideal path, and how to come back (https://arxiv.org/abs/1703.09327). Rollouts, which a world model learns
from, hold instead what the simulator was told and showed, whoever acted and however it ended.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.lerobot import Episode, Shard, ShardWriter
from siirl.envs.base import EnvObs

if TYPE_CHECKING:  # only rollouts of a policy have a use for PyTorch
    from siirl.policies.base import Policy

PUSH_STEPS = 4
PARTIAL = ".partial-{}.mp4"
"""File of the frames of a job that is not part of the dataset yet, see `partial_file`."""


@dataclass(frozen=True)
class Settings:
    """What all demonstrations of one collection share.

    Attributes:
        env: suite and rendering.
        seed: seeds noise, and what else is random.
        out: folder of the dataset.
        pushes: see `disturb`.
        rollouts: whether rollouts are recorded, see `rollout`, and not demonstrations.
        policy: folder of a policy that acts in the expert's place, in rollouts alone.
    """

    env: EnvConfig
    seed: int
    out: Path
    pushes: float = 0.0
    rollouts: bool = False
    policy: Path | None = None


@dataclass(frozen=True)
class Job:
    """Some trials of one task under one noise."""

    task_id: int
    noise: float
    trials: tuple[int, ...]


@dataclass
class Recording:
    """What an episode of L steps leaves.

    Attributes:
        states: float32 [L, D], before each action, and one more after the last where rollouts are recorded.
        actions: float32 [L, A], undisturbed.
        executed: float32 [L, A], as the simulator took them.
        frames: uint8 [L, H, W, 3], as the states.
        success: whether the last action reached the goal.
    """

    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    success: bool = False

    def look(self, obs: EnvObs) -> None:
        """Append a one-row observation."""
        self.frames.append(obs.main_images[0])
        self.states.append(obs.states[0])


class Demonstrator(Protocol):
    """A simulator of one task, with an expert in it."""

    def episode(self, settings: Settings, trial_id: int, noise: float, attempt: int) -> Recording:
        """Run the expert, or the settings' policy, once."""
        ...

    def close(self) -> None:
        """Free the simulator."""
        ...


@dataclass(frozen=True)
class Expertise:
    """What a simulator's experts can do.

    Attributes:
        build: settings and task → a demonstrator.
        check: (settings of the env, task, trials) → the task's instruction; raises ValueError for what cannot be collected.
        describe: what of the env's settings the recorded data depend on.
        suite, noises: what is collected unless something else is named.
        fps: control steps per second.
        state_dim, action_dim: lengths of the recorded vectors.
        attempts: how often a trial is tried.
    """

    build: Callable[[EnvConfig, int], Demonstrator]
    check: Callable[[EnvConfig, int, list[int]], str]
    describe: Callable[[EnvConfig], Mapping[str, Any]]
    suite: str
    noises: tuple[float, ...]
    fps: int
    state_dim: int
    action_dim: int
    attempts: int = 2


def partial_file(out: Path, job: Job) -> Path:
    """Where this process keeps the frames of ``job``. Another process may still write those of the same job: a worker whose
    parent was killed goes on until its job is done."""
    return out / PARTIAL.format(f"{os.getpid()}-{job.task_id}-{job.noise:g}-{job.trials[0]}")


def generator(seed: int, task_id: int, trial_id: int, noise: float, attempt: int) -> np.random.Generator:
    """The randomness of one episode."""
    return np.random.default_rng((seed, task_id, trial_id, round(1000 * noise), attempt))


def disturb(
    actions: Iterator[np.ndarray], noise: float, rng: np.random.Generator, pushes: float = 0.0, speed: float = 1.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (action wanted, action disturbed), float32 [7]; the gripper stays as it is.

    The disturbance is autoregressive with standard deviation ``noise``, n ← 0.8 n + 0.6 N(0, noise²): independent noise
    would average out over the arm's inertia. Pushes, at each step with probability ``pushes``, take the hand elsewhere: for
    `PUSH_STEPS` steps its translation is one random direction, up to ``speed`` along each axis. An expert that is never far
    from where it wants to be shows nobody how to look for the way.
    """
    offset, push, left = np.zeros(6), np.zeros(3), 0
    for action in actions:
        offset = 0.8 * offset + 0.6 * rng.normal(0.0, noise, 6)
        disturbed = action.copy()
        disturbed[:6] = np.clip(action[:6] + offset, -1, 1)
        if pushes and not left and rng.random() < pushes:
            push, left = rng.uniform(-speed, speed, 3), PUSH_STEPS
        if left:
            disturbed[:3], left = push, left - 1
        yield action, disturbed


def collect(expertise: Expertise, settings: Settings, job: Job) -> tuple[Shard, int]:
    """Collect a job's trials in this process: what was solved, with the frames in a file of its own, and the number of
    episodes run."""
    env = settings.env
    shard = ShardWriter(partial_file(settings.out, job), expertise.fps, (env.image_size, env.image_size))
    instruction = expertise.check(env, job.task_id, list(job.trials))
    episodes = 0
    with closing(expertise.build(env, job.task_id)) as demonstrator:
        for trial in job.trials:
            for attempt in range(expertise.attempts):
                episodes += 1
                found = demonstrator.episode(settings, trial, job.noise, attempt)
                if found.success or settings.rollouts:
                    labels = {"task_id": job.task_id, "trial_id": trial, "noise": job.noise}
                    labels |= {"success": found.success} if settings.rollouts else {}
                    vectors = np.stack(found.states), recorded_actions(found, settings.rollouts)
                    shard.add(Episode(instruction, *vectors, labels), np.stack(found.frames))
                    break
    return shard.close(), episodes


def recorded_actions(recording: Recording, rollouts: bool) -> np.ndarray:
    """What is stored beside the frames, float32 [F, A]: in a demonstration what the expert wanted, in a rollout what was
    executed, and zeros beside the last frame, which has no action."""
    if not rollouts:
        return np.stack(recording.actions)
    return np.stack([*recording.executed, np.zeros_like(recording.executed[0])])


def policy_actions(folder: Path, observe: Callable[[], EnvObs], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The actions of a policy, float32 [A] each, sampled; it looks again whenever a chunk is used up."""
    from siirl.policies.base import Sampling

    policy = _policy(folder)
    while True:
        sampling = Sampling(True, 1.0, seeds=[int(rng.integers(2**31))])
        yield from policy.act(policy.prepare(observe()), sampling).actions[0].numpy()


@cache
def _policy(folder: Path) -> "Policy":
    """One of each for the process."""
    from siirl.policies.load import load_policy

    return load_policy(folder, dtype="fp32")
