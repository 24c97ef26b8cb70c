"""Of the T actions that a policy predicts the first N are executed: what the simulator gets, and what training sees of it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.config.schema import Config
from siirl.dag.pipelines import estimate_advantages
from siirl.data.trajectory import Episode, EpisodeSpec, EpisodeSummary, Target, Trajectory
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from siirl.roles.trainer import Trainer
from siirl.training.batching import token_mask
from tests.roles.scripted import CHUNK, DIM, ScriptedPool, SeededPolicy, spec
from tests.roles.test_values import Rewarding, Valuing
from tests.training.updates import (
    ACTION_DIM,
    TOKENS,
    ContinuousPolicy,
    SmallPolicy,
    play,
    small_config,
    targets,
    weights,
)


class Executing(Rewarding):
    """Gets ``chunk`` actions at a time, and remembers them by trial."""

    def __init__(self, num_slots: int, chunk: int, seed: int = 0) -> None:
        super().__init__(num_slots, seed)
        self.chunk = chunk
        self.seen: dict[int, list[np.ndarray]] = {}

    def step(self, slot: int, actions: np.ndarray) -> None:
        super().step(slot, actions)  # asserts their number
        self.seen.setdefault(self._specs[slot].trial_id, []).append(actions)


def run(
    pool: ScriptedPool, specs: list[EpisodeSpec], executed: int | None, policy: SeededPolicy | None = None
) -> list[Trajectory]:
    rollout = Rollout(policy or SeededPolicy(), pool, num_executed=executed)
    rollout.release(step=0, version=3)
    done = rollout.run(EpisodeQueue(specs), Sampling(True, 1.0), after=0, bootstrap="standard" if policy else None)
    return sorted(done, key=lambda t: t.summary.spec.trial_id)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    executed=st.integers(1, CHUNK),
    slots=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_the_first_ones_are_executed_before_the_policy_decides_anew(
    lengths: list[int], executed: int, slots: int, seed: int
) -> None:
    pool = Executing(slots, executed, seed)
    for trajectory in run(pool, [spec(i, n) for i, n in enumerate(lengths)], executed):
        length = trajectory.summary.spec.env_seed
        chunks = math.ceil(length / executed)
        assert trajectory.summary.chunks == chunks
        assert trajectory.summary.steps == length
        assert trajectory.executed.tolist() == [executed] * (chunks - 1) + [length - executed * (chunks - 1)]
        assert trajectory.tokens.shape == trajectory.log_probs.shape == (chunks, CHUNK * DIM), (
            "all that was drawn is kept"
        )
        assert len(trajectory.images) == chunks + 1, "an observation for each decision"
        drawn = trajectory.tokens.reshape(chunks, CHUNK, DIM)
        np.testing.assert_array_equal(pool.seen[trajectory.summary.spec.trial_id], drawn[:, :executed])
        rewards = np.zeros((chunks, CHUNK), np.float32)
        rewards[np.arange(CHUNK) < trajectory.executed[:, None]] = np.arange(1, length + 1)
        np.testing.assert_array_equal(trajectory.rewards, rewards)


def test_all_of_them_is_what_happens_unless_told_otherwise() -> None:
    specs = [spec(i, 3 + 5 * i) for i in range(4)]
    for told, by_default in zip(
        run(Executing(1, CHUNK), specs, CHUNK), run(Executing(1, CHUNK), specs, None), strict=True
    ):
        for name in ("tokens", "executed", "rewards", "states"):
            np.testing.assert_array_equal(getattr(told, name), getattr(by_default, name))


@pytest.mark.parametrize("executed", [0, CHUNK + 1])
def test_more_than_there_are_cannot_be_executed(executed: int) -> None:
    with pytest.raises(AssertionError):
        Rollout(SeededPolicy(), ScriptedPool(1), num_executed=executed)


def test_values_are_of_the_observations_and_a_cut_episode_is_valued_at_its_end() -> None:
    ended, cut = run(Executing(2, 3), [spec(1, length=5), spec(2, length=99, max_steps=7)], 3, Valuing())
    assert ended.values is not None
    assert ended.values[:, 0].tolist() == [100, 103, 0]
    assert cut.values is not None
    assert cut.values[:, 0].tolist() == [200, 203, 206, 207]
    assert cut.executed.tolist() == [3, 3, 1]
    assert cut.summary.truncated


def advantages(config: Config, predicted: int, executed: int | None, summary: EpisodeSummary) -> list[np.ndarray]:
    """Advantages and returns of one episode."""
    embodied = config.actor_rollout_ref.embodied
    embodied.action_chunks_len, embodied.num_executed_actions = predicted, executed
    columns = estimate_advantages([Episode(summary, None, {"reward": 0.7})], config).columns
    return [columns[name][0] for name in ("advantage", "return")]


@given(
    steps=st.integers(1, 17),
    executed=st.integers(1, 4),
    level=st.sampled_from(("chunk_level", "action_level")),
    reward=st.sampled_from(("sparse", "env")),
    truncated=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_advantages_are_those_of_a_policy_that_predicts_no_more_than_is_executed(
    steps: int, executed: int, level: str, reward: str, truncated: bool
) -> None:
    config, predicted = Config(), 4
    config.algorithm.adv_estimator, config.algorithm.reward, config.algorithm.reward_type = "gae", reward, level
    config.algorithm.gamma, config.algorithm.lam = 0.9, 0.8
    config.critic.use_critic_model = True
    chunks, rng = math.ceil(steps / executed), np.random.default_rng(steps)
    values = rng.standard_normal((chunks + 1, predicted if level == "action_level" else 1)).astype(np.float32)
    counts = np.minimum(executed, steps - executed * np.arange(chunks))
    rewards = rng.standard_normal((chunks, predicted)).astype(np.float32)
    rewards[np.arange(predicted) >= counts[:, None]] = 0

    def found(width: int) -> list[np.ndarray]:
        given_rewards = rewards[:, :width] if reward == "env" else None
        summary = EpisodeSummary(
            EpisodeSpec("toy", 0, 0, "", 99, 0, 0, 0, 0),
            *(False, steps, chunks, truncated, 0),
            rewards=given_rewards,
            values=values[:, :width],
        )
        return advantages(config, width, executed, summary)

    for whole, short in zip(found(predicted), found(executed), strict=True):
        assert len(whole) == chunks
        np.testing.assert_allclose(whole[..., :executed] if whole.ndim == 2 else whole, short, rtol=1e-6, atol=1e-6)
        if whole.ndim == 2:
            assert not whole[:, executed:].any(), "what was not executed is no unit"


def shortened(episodes: list[Trajectory], executed: int) -> list[Trajectory]:
    """As if of each chunk only so many actions had been executed."""
    for episode in episodes:
        episode.executed = np.minimum(episode.executed, np.int16(executed))
    return episodes


@pytest.mark.parametrize("kind", [SmallPolicy, ContinuousPolicy])
@pytest.mark.parametrize("level", ["token_level", "action_level", "chunk_level"])
def test_only_what_was_executed_trains_and_its_first_ratios_are_1(level: str, kind: type[SmallPolicy]) -> None:
    config = small_config(ppo_mini_batch_size=4)
    config.algorithm.logprob_type = level
    chunks, results = [3, 1, 4, 2], []
    for other in (False, True):
        policy = kind()
        episodes = shortened(play(policy, config, chunks), 1)
        for episode in episodes if other else ():
            unused = ~token_mask(episode.executed, TOKENS, ACTION_DIM)
            assert unused.sum() >= len(episode.tokens) * ACTION_DIM
            episode.tokens[unused] = 3
        trainer: Trainer[Trajectory] = Trainer(policy, config, torch.device("cpu"))
        metrics = trainer.update(episodes, chunks, targets([1.0, -1.0, 0.5, -0.5]), list)
        assert metrics["actor/rollout_train_logprob_diff"] < 1e-5
        assert metrics["actor/ratio_mean_abs_dev"] < 1e-4
        results.append(weights(policy))
    assert all(torch.equal(results[0][name], tensor) for name, tensor in results[1].items())


def test_advantages_of_actions_reach_the_executed_ones() -> None:
    config = small_config(ppo_mini_batch_size=4)
    config.algorithm.logprob_type = "action_level"
    results = []
    for left_out in (0.0, 9.0):
        policy = SmallPolicy()
        episodes = shortened(play(policy, config, [3, 1]), 1)
        wanted = [Target(np.stack([np.float32([1.0, left_out])] * len(e.tokens))) for e in episodes]
        Trainer(policy, config, torch.device("cpu")).update(episodes, [3, 1], wanted, list)
        results.append(weights(policy))
    assert all(torch.equal(results[0][name], tensor) for name, tensor in results[1].items())
