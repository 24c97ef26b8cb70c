"""The update of a policy of continuous actions: what it learns from, and what becomes of its spread."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.config.action_noise import LOG_STD
from siirl.config.schema import Config
from siirl.data.trajectory import Trajectory
from siirl.policies.base import stack_observations
from siirl.roles.trainer import Trainer
from siirl.training.batching import token_mask
from siirl.training.dcp import MODEL, saved_tensors
from siirl.training.fsdp import ALONE, Ranks, full_parameters
from tests.training.ranks import CPU, on_ranks
from tests.training.updates import (
    ACTION_DIM,
    TOKENS,
    ContinuousPolicy,
    play,
    small_config,
    targets,
    weights,
)

CHUNKS = [3, 1, 4, 2, 5, 2, 1, 3]
ADVANTAGES = np.array([1.0, -1.0, 0.5, -0.5, 0.7, -0.7, 1.2, -1.2])


def fetch(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return list(trajectories)


def update(policy: ContinuousPolicy, config: Config) -> dict[str, float]:
    episodes = play(ContinuousPolicy(), config, CHUNKS)
    return Trainer(policy, config, CPU).update(episodes, CHUNKS, targets(ADVANTAGES), fetch)


def log_std(policy: ContinuousPolicy) -> torch.Tensor:
    return weights(policy)[LOG_STD]


@pytest.mark.parametrize("level", ["token_level", "action_level", "chunk_level"])
def test_the_first_mini_batch_finds_the_log_probs_of_the_rollout(level: str) -> None:
    config = small_config(ppo_mini_batch_size=4)
    config.algorithm.logprob_type = level
    metrics = update(ContinuousPolicy(), config)
    assert metrics["actor/rollout_train_logprob_diff"] < 1e-5
    assert metrics["actor/ratio_mean_abs_dev"] < 1e-4
    assert metrics["actor/optimizer_steps"] == 1


def test_it_is_sampled_numbers_that_train_and_not_whole_ones() -> None:
    policy, config = ContinuousPolicy(), small_config()
    episodes = play(policy, config, CHUNKS)
    assert all(episode.tokens.dtype == np.float32 for episode in episodes)
    assert any((episode.tokens % 1).any() for episode in episodes)
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU)
    trainer.update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    gain = 0.0
    for episode, advantage in zip(episodes, ADVANTAGES, strict=True):
        texts = [episode.summary.spec.instruction] * len(episode.tokens)
        inputs = policy.prepare(stack_observations(episode.images[:-1], episode.states[:-1], texts))
        now = policy.evaluate(inputs, torch.from_numpy(episode.tokens), config.actor_rollout_ref.rollout.temperature)
        higher = now.log_probs.detach().numpy() - episode.log_probs
        gain += float(advantage * (higher * token_mask(episode.executed, TOKENS, ACTION_DIM)).sum())
    assert gain > 0, "what was good is likelier now"


def test_the_spread_has_a_learning_rate_of_its_own_and_no_decay() -> None:
    config = small_config()
    config.actor_rollout_ref.actor.optim.weight_decay = 0.5
    noise = config.actor_rollout_ref.model.action_noise
    noise.lr = 0.0
    fixed = ContinuousPolicy()
    update(fixed, config)
    assert torch.equal(log_std(fixed), log_std(ContinuousPolicy())), "neither steps nor decay"
    noise.lr = 0.01
    learned = ContinuousPolicy()
    update(learned, config)
    moved = (log_std(learned) - log_std(ContinuousPolicy())).abs()
    assert (moved > 0).all()
    assert (moved <= 2 * 0.01 * 1.01).all(), "two steps of AdamW"


def test_a_spread_that_stays_as_it_is_has_no_part_in_the_clipped_norm() -> None:
    config, frozen = small_config(ppo_mini_batch_size=4), ContinuousPolicy()
    frozen.model.get_parameter(LOG_STD).requires_grad_(False)
    alone = update(frozen, config)["actor/grad_norm"]
    config.actor_rollout_ref.model.action_noise.lr = 0.0
    assert update(ContinuousPolicy(), config)["actor/grad_norm"] == pytest.approx(alone, rel=1e-6)
    config.actor_rollout_ref.model.action_noise.lr = 0.01
    assert update(ContinuousPolicy(), config)["actor/grad_norm"] > alone * (1 + 1e-5)


def test_entropy_can_be_asked_for() -> None:
    config = small_config(entropy_coeff=10.0)
    config.actor_rollout_ref.model.action_noise.lr = 0.01
    policy = ContinuousPolicy()
    update(policy, config)
    assert (log_std(policy) > log_std(ContinuousPolicy())).all()


def test_the_spread_is_checkpointed_with_its_moments(tmp_path: Path) -> None:
    config, policy = small_config(), ContinuousPolicy()
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU)
    trainer.update(play(policy, config, CHUNKS), CHUNKS, targets(ADVANTAGES), fetch)
    trainer.save(tmp_path)
    names = saved_tensors(tmp_path).keys()
    assert {f"{MODEL}{LOG_STD}", f"optimizer.{LOG_STD}.exp_avg", f"optimizer.{LOG_STD}.step"} <= names
    other = ContinuousPolicy(seed=5)
    Trainer(other, config, CPU).load(tmp_path)
    assert torch.equal(log_std(other), log_std(policy))


def train_sharded(ranks: Ranks, folder: Path) -> None:
    policy, config = ContinuousPolicy(), small_config(ppo_epochs=2)
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU, ranks)
    trainer.update(play(ContinuousPolicy(), config, CHUNKS), CHUNKS, targets(ADVANTAGES), fetch)
    torch.save(dict(full_parameters(policy.model, CPU)), folder / f"{ranks.world}-{ranks.rank}.pt")


def test_two_ranks_learn_the_spread_that_one_does(tmp_path: Path) -> None:
    on_ranks(2, 2, train_sharded, tmp_path)
    train_sharded(ALONE, tmp_path)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-1.pt"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
