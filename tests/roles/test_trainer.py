from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.algorithms.losses import ppo_clip_loss
from siirl.config.schema import Config
from siirl.data.trajectory import Trajectory
from siirl.policies.base import stack_observations
from siirl.roles.trainer import Trainer
from siirl.training.batching import token_mask
from tests.policies.tiny import tiny_policy
from tests.training.updates import ACTION_DIM, TOKENS, SmallPolicy, play, small_config, targets, weights

CPU = torch.device("cpu")
CHUNKS = [3, 1, 4, 2, 5, 2, 1, 3]
ADVANTAGES = np.array([1.0, -1.0, 0.5, -0.5, 0.7, -0.7, 1.2, -1.2])


def fetch(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return list(trajectories)


def trained(config: Config, updates: int = 1, seed: int = 0) -> tuple[SmallPolicy, Trainer, dict[str, float]]:
    policy = SmallPolicy(seed)
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU)
    for i in range(updates):
        metrics = trainer.update(play(policy, config, CHUNKS, seed=i), CHUNKS, targets(ADVANTAGES), fetch)
    return policy, trainer, metrics


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def reference_update(config: Config) -> dict[str, torch.Tensor]:
    """The same update with a batch per optimizer step, in order, and none of the trainer's parts but the loss."""
    policy = SmallPolicy()
    episodes = play(policy, config, CHUNKS)
    actor, temperature = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout.temperature
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=actor.optim.lr, weight_decay=actor.optim.weight_decay)
    for start in range(0, len(episodes), 4):
        loss, by_episode = torch.zeros(()), torch.zeros(())
        tokens = 0
        for episode, advantage in zip(episodes[start : start + 4], ADVANTAGES[start : start + 4], strict=True):
            instructions = [episode.summary.spec.instruction] * len(episode.tokens)
            inputs = policy.prepare(stack_observations(episode.images[:-1], episode.states[:-1], instructions))
            now = policy.evaluate(inputs, torch.from_numpy(episode.tokens).long(), temperature)
            mask = torch.from_numpy(token_mask(episode.executed, TOKENS, ACTION_DIM))
            weights_ = torch.full((len(episode.tokens),), float(advantage))
            parts = ppo_clip_loss(now.log_probs, torch.from_numpy(episode.log_probs), weights_, mask, 0.2, 0.28)
            loss = loss + parts.loss_sum - actor.entropy_coeff * (now.entropy * mask).sum()
            by_episode = by_episode + parts.loss_sum / mask.sum() / 4
            tokens += int(mask.sum())
        optimizer.zero_grad()
        (loss / tokens if actor.loss_agg_mode == "token-mean" else by_episode).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), actor.grad_clip)
        optimizer.step()
    return weights(policy)


@pytest.mark.parametrize("micro", [1, 3, 100])
def test_an_update_equals_the_plain_algorithm_whatever_the_micro_batch(micro: int) -> None:
    config = small_config(shuffle=False, entropy_coeff=0.01, ppo_micro_batch_size_per_gpu=micro, grad_clip=0.05)
    config.actor_rollout_ref.actor.optim.weight_decay = 0.1
    policy, trainer, _ = trained(config)
    expected = reference_update(config)
    assert trainer.version == 2
    for name, tensor in weights(policy).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def test_each_episode_weighs_the_same_when_asked() -> None:
    config = small_config(shuffle=False, ppo_micro_batch_size_per_gpu=3)
    by_token, _, _ = trained(config)
    config.actor_rollout_ref.actor.loss_agg_mode = "seq-mean-token-mean"
    by_episode, _, _ = trained(config)
    expected = reference_update(config)
    for name, tensor in weights(by_episode).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(t, weights(by_token)[n], rtol=1e-3) for n, t in weights(by_episode).items())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_openvla_oft_trains_on_what_it_did_itself(dtype: str) -> None:
    config = small_config(ppo_epochs=2)
    config.actor_rollout_ref.actor.optim.lr = 1e-3
    chunks = [3, 1, 4, 2]
    policy = tiny_policy(dtype=dtype)
    episodes = play(policy, config, chunks, image_size=40, state_dim=8)
    metrics = Trainer(policy, config, CPU).update(episodes, chunks, targets(ADVANTAGES[:4]), fetch)
    assert metrics["actor/rollout_train_logprob_diff"] < (1e-5 if dtype == "fp32" else 1e-2)
    assert metrics["actor/optimizer_steps"] == 2
    assert metrics["actor/approx_kl"] > 0
    assert all(p.dtype == torch.float32 for p in policy.model.parameters())


def test_the_update_raises_the_log_probs_of_good_episodes_and_lowers_those_of_bad_ones() -> None:
    config = small_config(ppo_epochs=3)
    policy = SmallPolicy()
    episodes = play(policy, config, CHUNKS)
    Trainer(policy, config, CPU).update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    gain = 0.0
    for episode, advantage in zip(episodes, ADVANTAGES, strict=True):
        instructions = [episode.summary.spec.instruction] * len(episode.tokens)
        inputs = policy.prepare(stack_observations(episode.images[:-1], episode.states[:-1], instructions))
        temperature = config.actor_rollout_ref.rollout.temperature
        now = policy.evaluate(inputs, torch.from_numpy(episode.tokens).long(), temperature).log_probs.detach().numpy()
        gain += float(advantage * ((now - episode.log_probs) * token_mask(episode.executed, TOKENS, ACTION_DIM)).sum())
    assert gain > 0


def test_metrics_are_true_per_token() -> None:
    _, trainer, metrics = trained(small_config(ppo_epochs=4))
    assert metrics["actor/optimizer_steps"] == trainer.version == 8
    assert metrics["actor/skipped_steps"] == 0
    assert metrics["actor/rollout_train_logprob_diff"] < 1e-6
    assert 0 < metrics["actor/clip_fraction"] < 1
    assert 0 < metrics["actor/approx_kl"] < 1
    assert 0 < metrics["actor/entropy"] <= np.log(16)
    assert metrics["actor/lr"] == 1e-2
    assert metrics["actor/grad_norm"] > 0
    assert "actor/tokens" not in metrics


def test_the_behaviour_check_sees_log_probs_of_other_weights() -> None:
    config = small_config()
    episodes = play(SmallPolicy(), config, CHUNKS)
    metrics = Trainer(SmallPolicy(seed=1), config, CPU).update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
    assert metrics["actor/rollout_train_logprob_diff"] > 0.01


def test_only_tokens_of_executed_steps_train() -> None:
    config = small_config()
    results = []
    for noise in (0, 7):
        policy = SmallPolicy()
        episodes = play(policy, config, CHUNKS)
        for episode in episodes:
            unused = ~token_mask(episode.executed, TOKENS, ACTION_DIM)
            assert unused.any() or episode.executed[-1] == policy.chunk_len
            episode.tokens[unused] = (episode.tokens[unused] + noise) % 16
        Trainer(policy, config, CPU).update(episodes, CHUNKS, targets(ADVANTAGES), fetch)
        results.append(weights(policy))
    assert_same(*results)


def test_warm_up_rises_linearly_from_zero() -> None:
    config = small_config()
    config.actor_rollout_ref.actor.optim.lr_warmup_steps = 4
    _, trainer, metrics = trained(config)
    assert metrics["actor/lr"] == pytest.approx(1e-2 * 2 / 4)
    assert [trainer.learning_rate(v) for v in (0, 3, 10)] == pytest.approx([1e-2 / 4, 1e-2, 1e-2])


@pytest.mark.parametrize("poison", ["log_prob", "advantage", "weight"])
def test_a_non_finite_mini_batch_never_reaches_the_optimizer(poison: str) -> None:
    config = small_config(shuffle=False)
    policy = SmallPolicy()
    trainer = Trainer(policy, config, CPU)
    episodes, advantages = play(policy, config, CHUNKS), ADVANTAGES.copy()
    if poison == "log_prob":
        episodes[0].log_probs[0, 0] = np.nan
    elif poison == "advantage":
        advantages[0] = np.inf
    else:
        with torch.no_grad():
            policy.model.head.weight[0, 0] = float("nan")
    before = weights(policy)
    metrics = trainer.update(episodes, CHUNKS, targets(advantages), fetch)
    if poison == "weight":
        assert metrics["actor/skipped_steps"] == 2
        assert trainer.version == 0
        assert all(torch.equal(before[k], v) or k == "head.weight" for k, v in weights(policy).items())
    else:
        assert metrics["actor/skipped_steps"] == metrics["actor/optimizer_steps"] == trainer.version == 1
        assert all(torch.isfinite(tensor).all() for tensor in weights(policy).values())
        assert all(np.isfinite(value) for value in metrics.values())


def test_shuffling_depends_on_the_seed_and_the_update_and_can_be_turned_off() -> None:
    def order(config: Config, updates: int = 1) -> list[list[int]]:
        policy = SmallPolicy()
        episodes = play(policy, config, CHUNKS)
        asked: list[list[int]] = []

        def note(handles: Sequence[int]) -> list[Trajectory]:
            asked.append(list(handles))
            return [episodes[i] for i in handles]

        trainer: Trainer[int] = Trainer(policy, config, CPU)
        for _ in range(updates):
            asked.clear()
            trainer.update(range(len(CHUNKS)), CHUNKS, targets(ADVANTAGES), note)
        return asked

    assert order(small_config(shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    config = small_config(ppo_epochs=2)
    first = order(config)
    assert first == order(config)
    assert first != order(config, updates=2)
    assert first[:2] != first[2:]
    config.trainer.seed = 1
    assert first != order(config)


def test_a_resumed_run_ends_in_bit_identical_weights(tmp_path: Path) -> None:
    config = small_config(ppo_epochs=2)
    config.actor_rollout_ref.actor.optim.lr_warmup_steps = 6

    def run(policy: SmallPolicy, trainer: Trainer, steps: range) -> None:
        for step in steps:
            trainer.update(play(policy, config, CHUNKS, seed=step), CHUNKS, targets(ADVANTAGES), fetch)

    policy = SmallPolicy()
    run(policy, Trainer(policy, config, CPU), range(4))

    first = SmallPolicy()
    trainer = Trainer(first, config, CPU)
    run(first, trainer, range(2))
    trainer.save(tmp_path)
    second = SmallPolicy(seed=5)
    resumed = Trainer(second, config, CPU)
    resumed.load(tmp_path)
    assert (resumed.version, resumed.updates) == (trainer.version, trainer.updates) == (8, 2)
    run(second, resumed, range(2, 4))
    assert_same(weights(policy), weights(second))


def test_offloading_changes_nothing_in_the_result() -> None:
    config = small_config(ppo_micro_batch_size_per_gpu=1)
    plain, _, _ = trained(config, updates=2)
    config.actor_rollout_ref.actor.fsdp_config.grad_offload = True
    config.actor_rollout_ref.actor.fsdp_config.optimizer_offload = True
    offloaded, _, _ = trained(config, updates=2)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(offloaded)[name], tensor, rtol=1e-5, atol=1e-7)


def test_one_rank_refuses_to_offload_the_rollouts_parameters() -> None:
    config = small_config()
    config.actor_rollout_ref.actor.fsdp_config.param_offload = True
    with pytest.raises(ValueError, match="param_offload=true needs several actor ranks, or a rollout on another slot"):
        Trainer(SmallPolicy(), config, CPU)
    assert Trainer(SmallPolicy(), config, CPU, shared=False).version == 0


def test_half_precision_weights_are_refused() -> None:
    policy = SmallPolicy()
    policy.model.half()
    with pytest.raises(ValueError, match=r"float32 weights, but embed\.weight is torch\.float16"):
        Trainer(policy, small_config(), CPU)
