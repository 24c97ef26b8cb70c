"""What the classifier's verdict on a chunk comes to."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from siirl.envs.world_model.outcomes import settle


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_an_episode_ends_at_the_first_frame_over_the_threshold() -> None:
    outcome = settle(row(0.1, 0.5, 0.95, 0.2), np.array([0.2], np.float32), np.array([9]), 0.9)
    assert (outcome.success[0], outcome.truncated[0], outcome.executed[0]) == (True, False, 3)
    np.testing.assert_allclose(outcome.rewards[0], [-0.1, 0.4, 0.45, 0], atol=1e-6)


def test_success_behind_the_last_step_does_not_count() -> None:
    outcome = settle(row(0.1, 0.5, 0.95, 0.2), np.zeros(1, np.float32), np.array([2]), 0.9)
    assert (outcome.success[0], outcome.truncated[0], outcome.executed[0]) == (False, True, 2)


def test_success_in_the_last_step_is_no_truncation() -> None:
    outcome = settle(row(0.1, 0.95), np.zeros(1, np.float32), np.array([2]), 0.9)
    assert (outcome.success[0], outcome.truncated[0]) == (True, False)


def test_nan_is_no_success_and_shows_in_the_rewards() -> None:
    outcome = settle(row(0.1, np.nan, 0.95), np.zeros(1, np.float32), np.array([2]), 0.9)
    assert not outcome.success[0]
    assert np.isnan(outcome.rewards[0, 1])


@given(
    arrays(np.float32, (4, 3, 5), elements=st.floats(0, 1, width=32)),
    st.integers(1, 20),
    st.floats(0.1, 1),
)
def test_rewards_of_an_episode_add_up_to_its_last_probability(
    chunks: np.ndarray, max_steps: int, threshold: float
) -> None:
    before, left = np.zeros(3, np.float32), np.full(3, max_steps)
    total, alive = np.zeros(3), np.ones(3, bool)
    for chunk in chunks:
        outcome = settle(chunk[alive], before[alive], left[alive], threshold)
        assert (outcome.executed >= 1).all()
        assert (outcome.executed <= left[alive]).all()
        assert not (outcome.success & outcome.truncated).any()
        total[alive] += outcome.rewards.sum(1)
        before[alive], left[alive] = outcome.probabilities, left[alive] - outcome.executed
        alive[alive] = ~(outcome.success | outcome.truncated)
        np.testing.assert_allclose(total, before, atol=1e-5)
        if not alive.any():
            break
