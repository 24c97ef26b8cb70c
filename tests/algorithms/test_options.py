"""Every option that has a name, and every number of an algorithm, changes the result."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from siirl.algorithms.base import ADVANTAGES, EpisodeReturns
from siirl.algorithms.kl import kl_penalty
from siirl.algorithms.levels import at_level
from siirl.algorithms.losses import decoupled_clip_loss, episode_weight, ppo_clip_loss
from siirl.algorithms.value_loss import value_loss
from siirl.config.keys import KEYS
from siirl.config.schema import AlgorithmConfig

ACTOR = "actor_rollout_ref.actor"
GENERATOR = torch.Generator().manual_seed(0)
BEFORE, ACTED, MOVE = (torch.randn(6, 4, generator=GENERATOR) for _ in range(3))
NOW = BEFORE + 1.5 * MOVE
A = torch.tensor([1.0, -1.0, 0.5, -2.0, 1.5, -0.2])
MASK = torch.arange(4) < torch.tensor([4, 3, 2, 4, 1, 4])[:, None]


def advantages(**options: Any) -> np.ndarray:
    """Of five episodes in two groups, each as [C, T]."""
    rng = np.random.default_rng(0)
    name = options.pop("adv_estimator", "gae")
    config = AlgorithmConfig(**options)
    outputs = 2 if config.reward_type == "action_level" else 1
    batch = [
        EpisodeReturns(score, group, rng.random((3, 2)), np.array([2, 2, 1]), np.ones((4, outputs)), bool(group))
        for score, group in ((1.0, 0), (0.0, 0), (0.3, 0), (0.2, 1), (0.9, 1))
    ]
    found = ADVANTAGES.get(name).function(batch, config).advantages
    return np.stack([np.broadcast_to(a.reshape(*a.shape, *[1] * (2 - a.ndim)), (3, 2)) for a in found])


def ppo(low: float = 0.2, high: float = 0.28, c: float | None = None) -> Tensor:
    return ppo_clip_loss(NOW, BEFORE, A, MASK, low, high, c).loss_sum


def at(level: str) -> Tensor:
    """The mean per unit."""
    (now, mask), (before, _) = (at_level(x, MASK, level, 2) for x in (NOW, BEFORE))
    return ppo_clip_loss(now, before, A, mask, 0.2, 0.28).loss_sum / mask.sum()


def aggregated(mode: str) -> Tensor:
    weights = torch.tensor([episode_weight(int(row.sum()), int(MASK.sum()), len(MASK), mode) for row in MASK])
    return ppo_clip_loss(NOW, BEFORE, A * weights, MASK, 0.2, 0.28).loss_sum


def weighed(cap: float) -> Tensor:
    return decoupled_clip_loss(NOW, BEFORE, ACTED, A, MASK, 0.2, 0.28, cap)[0].loss_sum


def values(clip: float | None = 0.2, delta: float = 10.0) -> Tensor:
    return value_loss(NOW, BEFORE, 3 * ACTED, MASK, clip, delta).loss_sum


OPTIONS: dict[str, tuple[tuple, Callable[[Any], Any]]] = {
    "algorithm.adv_estimator": (tuple(ADVANTAGES.names()), lambda x: advantages(adv_estimator=x)),
    "algorithm.gamma": ((0.5, 0.99, 1.0), lambda x: advantages(gamma=x)),
    "algorithm.lam": ((0.0, 0.95, 1.0), lambda x: advantages(lam=x)),
    "algorithm.reward_type": (("chunk_level", "action_level"), lambda x: advantages(reward_type=x)),
    "algorithm.bootstrap_type": (("standard", "always"), lambda x: advantages(bootstrap_type=x)),
    "algorithm.reward_scale": ((1.0, 5.0), lambda x: advantages(reward_scale=x)),
    "algorithm.normalize_advantages": ((True, False), lambda x: advantages(normalize_advantages=x)),
    "algorithm.norm_adv_by_std_in_grpo": (
        (True, False),
        lambda x: advantages(adv_estimator="grpo", norm_adv_by_std_in_grpo=x),
    ),
    "algorithm.logprob_type": (("token_level", "action_level", "chunk_level"), at),
    f"{ACTOR}.clip_ratio_low": ((0.1, 0.2), lambda x: ppo(low=x)),
    f"{ACTOR}.clip_ratio_high": ((0.2, 0.28), lambda x: ppo(high=x)),
    f"{ACTOR}.clip_ratio_c": ((None, 1.5, 3.0), lambda x: ppo(c=x)),
    f"{ACTOR}.loss_agg_mode": (("token-mean", "seq-mean-token-mean"), aggregated),
    f"{ACTOR}.behavior_weight_cap": ((1.0, 5.0), weighed),
    f"{ACTOR}.kl_loss_type": (("k1", "k2", "k3"), lambda x: kl_penalty(NOW, BEFORE, MASK, x)),
    "critic.clip": ((None, 0.2, 0.5), lambda x: values(clip=x)),
    "critic.huber_delta": ((0.5, 10.0), lambda x: values(delta=x)),
}


NO_ESTIMATOR_READS = ("algorithm.workflow_type", "algorithm.reward")
"""What the rewards are is told by their own tests; there is one workflow."""


def test_no_option_of_an_estimator_or_a_ratio_is_left_out() -> None:
    options = {key for key in KEYS if key.startswith("algorithm.") and key.count(".") == 1}
    assert options - set(NO_ESTIMATOR_READS) <= OPTIONS.keys()


@pytest.mark.parametrize("key", OPTIONS)
def test_each_value_gives_another_result(key: str) -> None:
    tried, result = OPTIONS[key]
    if KEYS[key].choices is not None:
        assert set(tried) == set(KEYS[key].choices)
    results = [np.asarray(result(value)) for value in tried]
    for i, one in enumerate(results):
        assert np.isfinite(one).all()
        for other, value in zip(results[:i], tried, strict=False):
            assert not np.allclose(one, other, rtol=1e-4, atol=1e-4), f"{key}: {tried[i]} is as {value}"
