"""Episodes of a policy, run again from their actions with every step's picture and state.

A policy sees one picture per chunk, and a rollout renders no others: a picture costs more than a step of physics. Simulators that
repeat themselves for the same seed and actions give the others afterwards.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.lerobot import Episode, Shard, ShardWriter
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, Env
from siirl.envs.demonstrations import PARTIAL

FEATURES = {
    "task_id": "int64",
    "trial_id": "int64",
    "repetition": "int64",
    "next.reward": "float32",
    "next.success": "bool",
    "next.done": "bool",
}
"""What the rows say beside pictures, states and actions; those with ``next`` as LeRobot names them: of what the action led to."""


@dataclass(frozen=True)
class Recorded:
    """An episode of L steps.

    Attributes:
        spec: the episode; its most steps are L.
        actions: un-normalised, float32 [L, D].
        success: how it ended.
    """

    spec: EpisodeSpec
    actions: np.ndarray
    success: bool


def replay(env: Env, recorded: Recorded) -> tuple[Episode, np.ndarray] | None:
    """The episode and the frames before each action, uint8 [L, H, W, 3]; None where it did not end as it did before."""
    obs = env.reset([0], [recorded.spec])
    frames, states, rewards, success = [], [], [], False
    for step, action in enumerate(recorded.actions, start=1):
        frames.append(obs.main_images[0])
        states.append(obs.states[0])
        result = env.step([0], action[None, None])
        obs, success = result.obs, bool(result.success[0])
        rewards.append(result.rewards[0, 0])
        if step < len(recorded.actions) and (success or result.terminated[0]):
            return None
    if success != recorded.success:
        return None
    last = np.arange(len(rewards)) == len(rewards) - 1
    spec = recorded.spec
    labels = {
        "task_id": spec.task_id,
        "trial_id": spec.trial_id,
        "repetition": spec.index,
        "next.reward": np.array(rewards, np.float32),
        "next.success": last & success,
        "next.done": last,
    }
    return Episode(spec.instruction, np.stack(states), recorded.actions, labels), np.stack(frames)


def replay_all(config: EnvConfig, fps: int, out: Path, episodes: Sequence[Recorded]) -> tuple[Shard, list[str]]:
    """Replay episodes of a suite in this process; those that ended as before, with their frames in a file of its own in
    ``out``, and the names of the others."""
    first = episodes[0].spec
    name = f"{os.getpid()}-{first.task_id}-{first.trial_id}-{first.index}"
    shard = ShardWriter(out / PARTIAL.format(name), fps, (config.image_size, config.image_size))
    lost = []
    with closing(ENVS.get(config.env_type)(replace(config, num_envs=1))) as env:
        for recorded in episodes:
            again = replay(env, recorded)
            if again is None:
                lost.append(f"{recorded.spec.prompt_id}, repetition {recorded.spec.index}")
            else:
                shard.add(*again)
    return shard.close(), lost
