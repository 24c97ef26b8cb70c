"""Estimators of whole episodes' scores beside the float64 reference, and what all registered estimators keep to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.algorithms.base import ADVANTAGES, EpisodeReturns
from siirl.config.schema import AlgorithmConfig
from tests.algorithms import reference
from tests.algorithms.strategies import episodes

RELATIVE = {"grpo": reference.grpo, "dr_grpo": reference.dr_grpo, "rloo": reference.rloo}
scored = st.lists(
    st.tuples(st.sampled_from((0.0, 1.0, 0.1, -3.0)) | st.floats(-5, 5), st.integers(0, 3)), min_size=1, max_size=12
)


def of_scores(rows: list[tuple[float, int]]) -> list[EpisodeReturns]:
    nothing = np.zeros((1, 1), np.float32)
    return [EpisodeReturns(score, group, nothing, np.ones(1, int), None, False) for score, group in rows]


def estimate(name: str, rows: list[tuple[float, int]], **config: bool) -> np.ndarray:
    found = ADVANTAGES.get(name).function(of_scores(rows), AlgorithmConfig(**config))
    assert found.returns is None
    assert all(a.shape == () and a.dtype == np.float32 for a in found.advantages)
    return np.array(found.advantages)


@pytest.mark.parametrize("name", RELATIVE)
@given(rows=scored)
def test_a_score_beside_its_group(name: str, rows: list[tuple[float, int]]) -> None:
    scores, groups = [score for score, _ in rows], [group for _, group in rows]
    expected = reference.of_groups(scores, groups, RELATIVE[name])
    np.testing.assert_allclose(estimate(name, rows), expected, rtol=1e-6, atol=1e-6)


@given(rows=scored)
def test_grpo_without_the_division_is_dr_grpo(rows: list[tuple[float, int]]) -> None:
    plain = estimate("grpo", rows, norm_adv_by_std_in_grpo=False)
    np.testing.assert_array_equal(plain, estimate("dr_grpo", rows))


@given(rows=scored)
def test_a_score_beside_the_batch(rows: list[tuple[float, int]]) -> None:
    expected = reference.whitened(np.array([score for score, _ in rows]))
    np.testing.assert_allclose(estimate("reinforce_plus_plus", rows), expected, rtol=1e-6, atol=1e-6)
    others = [(score, group + i) for i, (score, group) in enumerate(rows)]
    np.testing.assert_array_equal(estimate("reinforce_plus_plus", others), estimate("reinforce_plus_plus", rows))


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "reinforce_plus_plus"])
def test_equal_scores_teach_nothing_whatever_their_rounding(name: str) -> None:
    np.testing.assert_allclose(estimate(name, [(0.1, 0)] * 3), np.zeros(3), atol=1e-9)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo"])
def test_an_episode_alone_keeps_its_score(name: str) -> None:
    np.testing.assert_array_equal(estimate(name, [(0.25, 0), (-2.0, 5)]), [0.25, -2.0])


def test_what_each_estimator_asks_for() -> None:
    asked = {
        name: (ADVANTAGES.get(name).needs_values, ADVANTAGES.get(name).scores_groups) for name in ADVANTAGES.names()
    }
    assert asked == {
        "dr_grpo": (False, True),
        "gae": (True, False),
        "grpo": (False, True),
        "reinforce_plus_plus": (False, False),
        "rloo": (False, True),
    }


@pytest.mark.parametrize("name", ADVANTAGES.names())
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_estimator_gives_each_episode_finite_numbers_and_leaves_the_batch_alone(
    name: str, data: st.DataObject
) -> None:
    batch = data.draw(episodes(per_action=False))
    before = [(e.rewards.copy(), e.values.copy()) for e in batch]
    found = ADVANTAGES.get(name).function(batch, AlgorithmConfig())
    assert len(found.advantages) == len(batch)
    assert (found.returns is not None) == ADVANTAGES.get(name).needs_values
    assert all(np.isfinite(x).all() for x in found.advantages + (found.returns or []))
    for episode, (rewards, values) in zip(batch, before, strict=True):
        np.testing.assert_array_equal(episode.rewards, rewards)
        np.testing.assert_array_equal(episode.values, values)
