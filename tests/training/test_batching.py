from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.data.trajectory import Trajectory
from siirl.training.batching import Batch, Share, balance, micro_batches, mini_batches, token_mask
from tests.training.updates import ACTION_DIM, TOKENS, SmallPolicy, play, small_config, targets


@given(st.lists(st.integers(1, 64), max_size=40), st.integers(1, 8))
def test_balance_gives_every_item_once_and_no_rank_an_item_more_than_the_mean(loads: list[int], ranks: int) -> None:
    shares = balance(loads, ranks)
    assert len(shares) == ranks
    assert sorted(i for share in shares for i in share) == list(range(len(loads)))
    heaviest = max(sum(loads[i] for i in share) for share in shares)
    assert heaviest <= sum(loads) / ranks + max(loads, default=0)


def test_balance_counts_chunks_not_episodes() -> None:
    assert balance([60, 1, 30, 30, 1], 2) == [[0, 1], [2, 3, 4]]


@given(st.integers(1, 50), st.integers(1, 20), st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_mini_batches_hold_every_episode_once(episodes: int, size: int, seed: tuple[int, int] | None) -> None:
    batches = mini_batches(episodes, size, seed)
    assert sorted(i for batch in batches for i in batch) == list(range(episodes))
    assert all(len(batch) == size for batch in batches[:-1])
    assert batches == mini_batches(episodes, size, seed)


def test_without_a_seed_episodes_stay_in_order_and_seeds_differ() -> None:
    assert mini_batches(5, 2, None) == [[0, 1], [2, 3], [4]]
    assert mini_batches(32, 32, (0, 1)) != mini_batches(32, 32, (0, 2))


def test_tokens_are_laid_out_step_by_step() -> None:
    mask = token_mask(np.array([2, 1, 0]), 6, 3)
    assert mask.astype(int).tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0] * 6]


def share_of(trajectories: list[Trajectory], advantages: list[float], count: int, **more: Any) -> Share:
    rows = np.arange(sum(len(t.tokens) for t in trajectories))
    more = {"proximal": None, "version": None, **more}
    return Share(
        trajectories,
        targets(advantages),
        [1.0] * len(advantages),
        rows,
        episodes=3,
        spare=trajectories[-1],
        micro_batches=count,
        **more,
    )


@pytest.mark.parametrize("size", [1, 3, 100])
def test_micro_batches_hold_every_chunk_once_and_pad_with_inactive_ones(size: int) -> None:
    trajectories = play(SmallPolicy(), small_config(), [4, 1, 3])
    count = -(-8 // size) + 2
    batches = list(micro_batches(share_of(trajectories, [1.0, -2.0, 0.5], count), size, ACTION_DIM))
    assert len(batches) == count
    assert all(len(batch.obs) <= size for batch in batches)
    own, padding = batches[:-2], batches[-2:]
    assert np.array_equal(np.concatenate([b.tokens for b in own]), np.concatenate([t.tokens for t in trajectories]))
    images = np.concatenate([t.images[:-1, 0] for t in trajectories])
    assert np.array_equal(np.concatenate([b.obs.main_images for b in own]), images)
    states = np.concatenate([t.states[:-1] for t in trajectories])
    assert np.array_equal(np.concatenate([b.obs.states for b in own]), states)
    advantages = np.repeat([1.0, -2.0, 0.5], [4, 1, 3])
    assert np.concatenate([b.advantages for b in own])[:, 0].tolist() == advantages.tolist()
    active = np.concatenate([b.mask for b in own])
    executed = np.concatenate([t.executed for t in trajectories])
    assert np.array_equal(active.sum(1), executed * ACTION_DIM)
    assert all(len(b.obs) == 1 and not b.mask.any() and b.mask.shape == (1, TOKENS) for b in padding)


def test_a_second_view_becomes_the_wrist_image() -> None:
    (trajectory,) = play(SmallPolicy(), small_config(), [2])
    trajectory.images = np.concatenate([trajectory.images, 255 - trajectory.images], axis=1)
    (batch,) = micro_batches(share_of([trajectory], [1.0], 1), 8, ACTION_DIM)
    assert batch.obs.wrist_images is not None
    assert np.array_equal(batch.obs.wrist_images, 255 - batch.obs.main_images)


def test_rows_come_with_the_log_probs_before_the_update_and_with_who_acted() -> None:
    trajectories = play(SmallPolicy(), small_config(), [2, 3])
    trajectories[1].summary = replace(trajectories[1].summary, policy_version=4)
    recorded = np.concatenate([t.log_probs for t in trajectories])
    (batch,) = micro_batches(share_of(trajectories, [1.0, 1.0], 1), 8, ACTION_DIM)
    assert np.array_equal(batch.behavior, recorded)
    assert np.array_equal(batch.proximal, recorded)
    assert batch.fresh.all()
    before = recorded - 1
    parts = list(micro_batches(share_of(trajectories, [1.0, 1.0], 2, proximal=before, version=4), 3, ACTION_DIM))
    assert np.array_equal(np.concatenate([p.proximal for p in parts]), before)
    assert np.array_equal(np.concatenate([p.behavior for p in parts]), recorded)
    assert np.concatenate([p.fresh for p in parts]).tolist() == [False] * 2 + [True] * 3


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 3))
def test_the_shares_of_all_ranks_have_every_row_once(chunks: list[int], ranks: int) -> None:
    episodes = play(SmallPolicy(), small_config(), chunks)
    proximal = np.arange(sum(chunks) * TOKENS, dtype=np.float32).reshape(-1, TOKENS)
    batch = Batch(episodes, chunks, targets(np.ones(len(chunks))), list, proximal)
    picked = list(range(len(chunks)))[::-1]
    shares = [batch.share(picked, rank, ranks, 2) for rank in range(ranks)]
    assert sorted(np.concatenate([s.rows for s in shares]).tolist()) == list(range(sum(chunks)))
    states = np.concatenate([e.states[:-1] for e in episodes])
    for share in shares:
        assert len({s.micro_batches for s in shares}) == 1
        assert np.array_equal(share.proximal, proximal[share.rows])
        if share.trajectories:
            assert np.array_equal(np.concatenate([t.states[:-1] for t in share.trajectories]), states[share.rows])
