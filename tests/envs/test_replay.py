"""Replaying: what every step looked like, from actions alone, is what the policy saw where it looked."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.libero import LiberoEnv
from siirl.envs.replay import Recorded, replay, replay_all
from tests.workers.toy import GOAL, INSTRUCTION, ToyEnv

CHUNKS, CHUNK = 2, 8


def spec(suite: str, max_steps: int) -> EpisodeSpec:
    return EpisodeSpec(suite, 2, 3, INSTRUCTION, max_steps, group_id=0, index=1, env_seed=5, action_seed=0)


def test_libero_shows_between_two_looks_what_lies_between_and_at_them_the_same() -> None:
    config = EnvConfig(image_size=64, num_envs=1)
    actions = np.random.default_rng(0).uniform(-1, 1, (CHUNKS, 1, CHUNK, 7)).astype(np.float32)
    episode = spec("libero_spatial", CHUNKS * CHUNK)
    with closing(LiberoEnv(config)) as env:
        seen = [env.reset([0], [episode])] + [env.step([0], chunk).obs for chunk in actions]
        env.reset([0], [replace(episode, trial_id=4)])  # what was there before an episode does not matter
        env.step([0], actions[1])
        again = replay(env, Recorded(episode, actions.reshape(-1, 7), success=False))
    assert again is not None
    recorded, frames = again
    for look, obs in enumerate(seen[:-1]):
        np.testing.assert_array_equal(frames[look * CHUNK], obs.main_images[0])
        np.testing.assert_array_equal(recorded.states[look * CHUNK], obs.states[0])
    assert len(np.unique(frames, axis=0)) == len(frames) == CHUNKS * CHUNK
    assert recorded.labels["next.done"].tolist() == [False] * 15 + [True]
    assert not recorded.labels["next.success"].any()


def walk(steps: int, success: bool, env_seed: int = 5) -> Recorded:
    """Half a unit a step, from somewhere between −0.5 and 0.5."""
    actions = np.zeros((steps, 7), np.float32)
    actions[:, 0] = 0.5
    return Recorded(replace(spec("toy", steps), env_seed=env_seed), actions, success)


def test_an_episode_that_ends_otherwise_is_left_out_and_named(toy: Path, tmp_path: Path) -> None:
    start = np.random.default_rng(5).uniform(-0.5, 0.5)
    needed = int((GOAL - start) // 0.5) + 1
    env = ToyEnv(EnvConfig(image_size=32))
    assert replay(env, walk(needed, success=False)) is None, "it succeeds now"
    assert replay(env, walk(needed + 1, success=True)) is None, "it succeeds a step earlier"
    assert replay(env, walk(needed - 1, success=True)) is None, "it does not get there"
    episodes = [walk(needed, success=True), walk(needed, success=False), walk(needed - 1, success=False)]
    config = EnvConfig(env_type="toy", env_name="toy", image_size=32)
    shard, lost = replay_all(config, 20, tmp_path, episodes)
    assert lost == ["toy/2/3, repetition 1"]
    assert [len(episode.actions) for episode in shard.episodes] == [needed, needed - 1]
    assert shard.episodes[0].labels["next.reward"].tolist() == [0.0] * needed  # the toy gives none
    assert shard.episodes[0].labels["next.success"][-1]
