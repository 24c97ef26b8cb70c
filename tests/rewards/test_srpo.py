"""SRPO's reward against golden batches, and its properties."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.rewards.base import REWARDS, RewardInputs
from siirl.rewards.sparse import sparse_reward
from siirl.rewards.srpo import srpo_reward

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "srpo_reward_dev.json").read_text())


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings [n, E], success [n] and task [n] of a random batch."""
    n = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    success = rng.random(n) < draw(st.floats(0, 1))
    # A coarse grid makes clusters, duplicates and equal distances likely.
    embeddings = rng.integers(-3, 4, (n, draw(st.integers(1, 4)))) * draw(st.sampled_from([0.05, 1.0, 7.3]))
    return embeddings, success, rng.integers(0, draw(st.integers(1, 4)), n)


@pytest.mark.parametrize("batch", GOLDEN)
def test_equals_the_published_implementation(batch: dict) -> None:
    reward = srpo_reward(np.array(batch["embeddings"]), batch["success"], batch["task"])
    np.testing.assert_allclose(reward, batch["reward"], atol=1e-6)
    assert reward.dtype == np.float64
    tensor = srpo_reward(torch.tensor(batch["embeddings"]), torch.tensor(batch["success"]), batch["task"])
    np.testing.assert_allclose(tensor, batch["reward"], atol=1e-6)
    assert tensor.dtype == torch.float32


@given(batches())
@settings(deadline=None, max_examples=40)
def test_success_is_one_and_failure_below_0_6(batch: tuple) -> None:
    embeddings, success, task = batch
    reward = srpo_reward(embeddings, success, task)
    assert (reward[success] == 1).all()
    assert ((reward[~success] >= 0) & (reward[~success] < 0.6)).all()
    hopeless = ~success & ~np.isin(task, task[success])
    assert (reward[hopeless] == 0).all()
    assert (reward[~success & ~hopeless] > 0).all()


@given(batches(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_order_of_the_batch_does_not_matter(batch: tuple, random) -> None:
    order = list(range(len(batch[0])))
    random.shuffle(order)
    shuffled = srpo_reward(*(part[order] for part in batch))
    np.testing.assert_allclose(shuffled, srpo_reward(*batch)[order], atol=1e-9)


def test_order_does_not_matter_where_a_distance_is_the_radius_itself() -> None:
    grid = np.array([-3, 0, 2, 2, 2, 3])[:, None] * 0.05  # standard deviation 0.1: neighbours are 0.5 ± rounding apart
    batch = np.concatenate([grid, [[-0.15], [0.1], [0.4]]])
    success = np.arange(len(batch)) < len(grid)
    wanted = srpo_reward(batch, success, np.zeros(len(batch)))
    for seed in range(30):
        order = np.random.default_rng(seed).permutation(len(batch))
        shuffled = srpo_reward(batch[order], success[order], np.zeros(len(batch)))
        np.testing.assert_allclose(shuffled, wanted[order], atol=1e-9)


@given(batches())
@settings(deadline=None, max_examples=40)
def test_tasks_do_not_influence_each_other(batch: tuple) -> None:
    whole = srpo_reward(*batch)
    for label in np.unique(batch[2]):
        rows = batch[2] == label
        np.testing.assert_array_equal(srpo_reward(*(part[rows] for part in batch)), whole[rows])


def test_a_nearer_failure_earns_more() -> None:
    embeddings = np.array([[0.0, 0], [0, 1], [1, 0.5], [2, 0.5], [5, 0.5]])
    reward = srpo_reward(embeddings, [True, True, False, False, False], ["a"] * 5)
    assert reward[2] > reward[3] > reward[4]
    assert reward[2] == pytest.approx(0.6 / (1 + np.exp(-5)))
    assert reward[4] == pytest.approx(0.6 / (1 + np.exp(5)))


def test_clusters_are_references_of_their_own() -> None:
    """Two ways to succeed: a failure near either is near success, although their mean is far from both."""
    ways = np.array([[-10.0], [-10.01], [10.0], [10.01]])
    embeddings = np.concatenate([ways, [[9.0], [0.0], [-4.0]]])
    reward = srpo_reward(embeddings, [True] * 4 + [False] * 3, [0] * 7)
    assert reward[4] > reward[6] > reward[5]


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="3 embeddings, 2 success flags and 3 tasks"):
        srpo_reward(np.zeros((3, 2)), [True, False], [0, 0, 0])


def test_sparse_reward() -> None:
    np.testing.assert_array_equal(sparse_reward(np.array([True, False])), np.float32([1, 0]))
    assert torch.equal(sparse_reward(torch.tensor([False, True])), torch.tensor([0.0, 1.0]))


def test_registered_rewards() -> None:
    success = np.array([True, False, False])
    inputs = RewardInputs(
        success, np.float32([2, 0.5, 0]), np.zeros(3, dtype=int), np.float32([[0, 0], [1, 0], [3, 0]])
    )
    srpo, sparse = REWARDS.get("srpo"), REWARDS.get("sparse")
    assert (srpo.needs_embedding, sparse.needs_embedding) == (True, False)
    assert srpo.function(inputs)[1] > srpo.function(inputs)[2] > 0
    np.testing.assert_array_equal(sparse.function(RewardInputs(success, inputs.env, inputs.task, None)), [1, 0, 0])
    assert REWARDS.get("env").per_action
    np.testing.assert_array_equal(REWARDS.get("env").function(inputs), inputs.env)
