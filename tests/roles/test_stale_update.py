"""The update on episodes that other weights acted in than those that it starts from."""

from dataclasses import replace

import pytest
import torch

from siirl.data.trajectory import Trajectory
from siirl.policies.base import stack_observations
from siirl.roles.trainer import Trainer
from siirl.training.batching import token_mask
from tests.roles.test_trainer import ADVANTAGES, CHUNKS, CPU, fetch, trained
from tests.training.updates import ACTION_DIM, TOKENS, SmallPolicy, play, small_config, targets, weights

BEHAVIOR = {"actor/behavior_weight_mean", "actor/behavior_kl"}


def test_with_staleness_but_fresh_weights_an_update_is_the_same() -> None:
    config = small_config(ppo_epochs=2, entropy_coeff=0.01)
    plain, _, expected = trained(config)
    config.trainer.max_staleness = 1
    stale, _, metrics = trained(config)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(stale)[name], tensor, rtol=1e-4, atol=1e-5)
    assert metrics.keys() == expected.keys() | BEHAVIOR
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert metrics["actor/rollout_train_logprob_diff"] < 1e-6
    assert metrics["actor/behavior_weight_mean"] == pytest.approx(1, abs=1e-6)
    assert 0 <= metrics["actor/behavior_kl"] < 1e-9


def test_episodes_of_older_weights_are_clipped_around_those_before_the_update() -> None:
    config = small_config()
    episodes = play(SmallPolicy(seed=1), config, CHUNKS)
    stale = Trainer(SmallPolicy(), config, CPU).update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    config.trainer.max_staleness = 1
    config.actor_rollout_ref.actor.behavior_weight_cap = 1.5
    trainer: Trainer[Trajectory] = Trainer(SmallPolicy(), config, CPU)
    trainer.version = 3
    metrics = trainer.update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    assert 0 < metrics["actor/behavior_weight_mean"] <= 1.5
    assert metrics["actor/behavior_kl"] > 0.01
    assert "actor/rollout_train_logprob_diff" not in metrics, "the weights of now drew nothing"
    assert stale["actor/approx_kl"] > 3 * metrics["actor/approx_kl"] > 0
    for episode in episodes[2:]:
        episode.summary = replace(episode.summary, policy_version=3)
    again = Trainer(SmallPolicy(), config, CPU)
    again.version = 3
    said = again.update(episodes, CHUNKS, targets(ADVANTAGES), fetch)["actor/rollout_train_logprob_diff"]
    assert said > 0.01, "they claim to be of the weights of now, and are not"


def test_a_stale_update_equals_the_plain_algorithm() -> None:
    """Steps of one mini-batch each, with log-probs before the update and weights by hand."""
    config = small_config(shuffle=False, grad_clip=0.05)
    config.trainer.max_staleness = 1
    episodes = play(SmallPolicy(seed=1), config, CHUNKS)
    policy = SmallPolicy()
    Trainer(policy, config, CPU).update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    reference, before = SmallPolicy(), SmallPolicy()
    optimizer = torch.optim.AdamW(
        reference.model.parameters(), lr=1e-2, weight_decay=config.actor_rollout_ref.actor.optim.weight_decay
    )
    for start in (0, 4):
        loss, tokens = torch.zeros(()), 0
        for episode, advantage in zip(episodes[start : start + 4], ADVANTAGES[start : start + 4], strict=True):
            obs = stack_observations(
                episode.images[:-1], episode.states[:-1], [episode.summary.spec.instruction] * len(episode.tokens)
            )
            inputs, drawn = policy.prepare(obs), torch.from_numpy(episode.tokens).long()
            temperature = config.actor_rollout_ref.rollout.temperature
            now, then = (p.evaluate(inputs, drawn, temperature).log_probs for p in (reference, before))
            mask = torch.from_numpy(token_mask(episode.executed, TOKENS, ACTION_DIM))
            w = (then - torch.from_numpy(episode.log_probs)).exp().clamp(max=5.0).detach()
            r = (now - then.detach()).exp()
            gain = torch.minimum(r * float(advantage), r.clamp(0.8, 1.28) * float(advantage))
            loss, tokens = loss - (w * gain * mask).sum(), tokens + int(mask.sum())
        optimizer.zero_grad()
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(reference.model.parameters(), 0.05)
        optimizer.step()
    for name, tensor in weights(policy).items():
        torch.testing.assert_close(tensor, weights(reference)[name], rtol=1e-4, atol=1e-6)
