"""The update with a value head, a KL penalty and ratios of several levels, beside one written out with autograd alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from siirl.config.schema import Config
from siirl.data.trajectory import Target, Trajectory
from siirl.policies.base import ActionChunk, Evaluation, PolicyInputs, Sampling, stack_observations
from siirl.roles.trainer import Trainer
from tests.training.updates import ACTION_DIM, CHUNK, SmallPolicy, play, small_config, targets, weights

CPU = torch.device("cpu")
CHUNKS = [3, 1, 4, 2]
ADVANTAGES = [1.0, -1.0, 0.5, -0.5]


class Valuing(SmallPolicy):
    """Also values what it sees."""

    def __init__(self, seed: int = 0, outputs: int = 1) -> None:
        super().__init__(seed)
        self.model.value_head = nn.Linear(5, outputs)

    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        chunk = super().act(inputs, sampling)
        chunk.values = self.model.value_head(inputs["features"]).detach()
        return chunk

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        found = super().evaluate(inputs, sampled, temperature)
        found.values = self.model.value_head(inputs["features"])
        return found


def ppo_config(**critic: Any) -> Config:
    """One mini-batch of everything."""
    config = small_config(ppo_mini_batch_size=2)
    config.algorithm.adv_estimator = "gae"
    config.critic.use_critic_model = True
    for name, value in {"clip": None, "lr": 0.02, **critic}.items():
        setattr(config.critic, name, value)
    return config


def returns_of(episodes: list[Trajectory], per_action: bool = False) -> list[Target]:
    """Advantages and returns of each chunk, or of each action."""
    rng = np.random.default_rng(5)
    shapes = [(len(e.tokens), CHUNK) if per_action else (len(e.tokens),) for e in episodes]
    draw = lambda shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return [Target(draw(shape), draw(shape)) for shape in shapes]


def update(
    policy: SmallPolicy, config: Config, wanted: Callable[[list[Trajectory]], list[Target]] = returns_of, **more: Any
) -> dict[str, float]:
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU, **more)
    episodes = play(policy, config, CHUNKS)
    return trainer.update(episodes, CHUNKS, wanted(episodes), list)


def differ(a: SmallPolicy, b: SmallPolicy, part: str = "") -> bool:
    ours, theirs = weights(a), weights(b)
    return any(not torch.equal(ours[name], theirs[name]) for name in ours if name.startswith(part))


def test_the_update_is_that_of_the_equations() -> None:
    config = ppo_config(loss_coef=0.7, huber_delta=0.5)
    policy, reference = Valuing(), Valuing()
    metrics = update(policy, config)
    episodes = play(reference, config, CHUNKS)
    head = [p for n, p in reference.model.named_parameters() if n.startswith("value_head")]
    rest = [p for n, p in reference.model.named_parameters() if not n.startswith("value_head")]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": head, "lr": 0.02}], lr=1e-2, weight_decay=0.0)
    gain, error, tokens, chunks = torch.zeros(()), torch.zeros(()), 0, 0
    for episode, target in zip(episodes, returns_of(episodes), strict=True):
        assert target.returns is not None
        texts = [episode.summary.spec.instruction] * len(episode.tokens)
        inputs = reference.prepare(stack_observations(episode.images[:-1], episode.states[:-1], texts))
        now = reference.evaluate(inputs, torch.from_numpy(episode.tokens).long(), 1.6)
        mask = np.repeat(np.arange(CHUNK) < episode.executed[:, None], ACTION_DIM, axis=1)
        ratio = (now.log_probs - torch.from_numpy(episode.log_probs)).exp()  # 1: nothing is clipped
        gain = gain + (ratio * torch.from_numpy(target.advantage)[:, None])[torch.from_numpy(mask)].sum()
        assert now.values is not None
        off = now.values[:, 0] - torch.from_numpy(target.returns)
        error = error + torch.where(off.abs() <= 0.5, off**2 / 2, 0.5 * (off.abs() - 0.25)).sum()
        tokens, chunks = tokens + int(mask.sum()), chunks + len(episode.tokens)
    (-gain / tokens + 0.7 * error / chunks).backward()
    nn.utils.clip_grad_norm_(reference.model.parameters(), 1.0)
    optimizer.step()
    for name, tensor in weights(reference).items():
        torch.testing.assert_close(weights(policy)[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    assert metrics["actor/value_loss"] == pytest.approx(error.item() / chunks, rel=1e-4)
    assert metrics["actor/loss"] == pytest.approx(-gain.item() / tokens, rel=1e-4)


def test_values_learn_returns() -> None:
    config = ppo_config(lr=0.1)
    policy = Valuing()
    trainer: Trainer[Trajectory] = Trainer(policy, config, CPU)
    said = []
    for _ in range(100):
        episodes = play(policy, config, CHUNKS)
        features = [episode.states[:-1, 0] for episode in episodes]
        wanted = [Target(np.zeros(len(f), np.float32), 3 * f + 1) for f in features]
        said.append(trainer.update(episodes, CHUNKS, wanted, list))
    assert said[-1]["actor/value_loss"] < 0.1 * said[0]["actor/value_loss"]
    assert said[0]["critic/explained_variance"] < 0.5 < said[-1]["critic/explained_variance"] <= 1


def test_actions_of_a_chunk_have_values_of_their_own() -> None:
    config = ppo_config()
    config.algorithm.reward_type = "action_level"
    config.algorithm.logprob_type = "action_level"
    policy = Valuing(outputs=CHUNK)
    metrics = update(policy, config, lambda episodes: returns_of(episodes, per_action=True))
    assert metrics["actor/value_loss"] > 0
    assert differ(policy, Valuing(outputs=CHUNK), "value_head")


def test_warm_up_trains_the_value_head_alone() -> None:
    policy = Valuing()
    trainer: Trainer[Trajectory] = Trainer(policy, ppo_config(warmup_steps=1), CPU)
    for step in range(2):
        before = weights(policy)
        episodes = play(policy, trainer.config, CHUNKS)
        trainer.update(episodes, CHUNKS, returns_of(episodes), list)
        moved = {name for name, tensor in weights(policy).items() if not torch.equal(tensor, before[name])}
        assert {"value_head.weight", "value_head.bias"} <= moved
        assert (len(moved) > 2) == (step == 1)


def test_in_warm_up_no_gradient_of_the_policy_is_computed() -> None:
    policy, reached = Valuing(), set()
    for name, parameter in policy.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: reached.add(name))
    trainer: Trainer[Trajectory] = Trainer(policy, ppo_config(warmup_steps=1), CPU)
    episodes = play(policy, trainer.config, CHUNKS)
    trainer.update(episodes, CHUNKS, returns_of(episodes), list)
    assert reached == {"value_head.weight", "value_head.bias"}
    trainer.update(episodes, CHUNKS, returns_of(episodes), list)
    assert "embed.weight" in reached


def test_the_policys_own_warm_up_follows_that_of_the_values() -> None:
    config = ppo_config(warmup_steps=3)
    config.actor_rollout_ref.actor.optim.lr_warmup_steps = 2
    trainer: Trainer[Trajectory] = Trainer(Valuing(), config, CPU)
    assert [trainer.learning_rate(version) / 1e-2 for version in range(6)] == [0, 0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_the_penalty_counts_the_distance_from_the_reference(kind: str) -> None:
    config = small_config(kl_loss_coef=0.5, kl_loss_type=kind)
    plain, held, same = SmallPolicy(), SmallPolicy(), SmallPolicy()
    whole = lambda episodes: targets(ADVANTAGES)  # noqa: E731
    update(plain, small_config(), whole)
    away = update(held, config, whole, load_reference=lambda: SmallPolicy(seed=1))
    near = update(same, config, whole, load_reference=SmallPolicy)
    assert near["actor/kl_loss"] == pytest.approx(0, abs=1e-6)
    assert away["actor/kl_loss"] > 0.01 or kind == "k1"
    assert differ(held, plain)
    assert "actor/kl_loss" not in update(SmallPolicy(), small_config(), whole)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("algorithm", "logprob_type", "action_level"),
        ("algorithm", "logprob_type", "chunk_level"),
        ("actor", "clip_ratio_c", 1.01),
        ("actor", "clip_ratio_low", 0.01),
        ("actor", "clip_ratio_high", 0.01),
        ("actor", "entropy_coeff", 0.1),
        ("actor", "loss_agg_mode", "seq-mean-token-mean"),
        ("critic", "clip", 1e-4),
        ("critic", "huber_delta", 0.01),
        ("critic", "loss_coef", 5.0),
        ("critic", "lr", 0.5),
        ("critic", "warmup_steps", 2),
    ],
)
def test_every_option_changes_the_result(section: str, name: str, value: Any) -> None:
    def trained(changed: bool) -> SmallPolicy:
        config = ppo_config()
        config.actor_rollout_ref.actor.ppo_epochs = 3
        if changed:
            of = {"algorithm": config.algorithm, "critic": config.critic, "actor": config.actor_rollout_ref.actor}
            assert getattr(of[section], name) != value
            setattr(of[section], name, value)
        policy = Valuing()
        update(policy, config)
        return policy

    assert differ(trained(changed=True), trained(changed=False))
