"""GAE beside the float64 reference, and what it must be where it is known without one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.algorithms.base import ADVANTAGES, EpisodeReturns
from siirl.config.schema import AlgorithmConfig
from tests.algorithms import reference
from tests.algorithms.strategies import episodes

gae = ADVANTAGES.get("gae").function
factors = st.sampled_from((0.3, 0.9, 0.99, 1.0))


def decisions(
    episode: EpisodeReturns, per_action: bool, always: bool = False, scale: float = 1.0
) -> tuple[list, list[float], list[float], float]:
    """Where the decisions of an episode are, their rewards and values, and what follows the last."""
    places, rewards, values = [], [], []
    for c, executed in enumerate(episode.executed):
        acted = [scale * float(reward) for reward in episode.rewards[c, :executed]]
        if per_action:
            places += [(c, t) for t in range(executed)]
            rewards += acted
            values += [float(v) for v in episode.values[c, :executed]]
        elif acted:
            places.append((c,))
            rewards.append(sum(acted))
            values.append(float(episode.values[c, 0]))
    return places, rewards, values, float(episode.values[-1, 0]) if episode.truncated or always else 0.0


def expected(
    batch: list[EpisodeReturns], config: AlgorithmConfig, per_action: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The reference's advantages and returns, in the estimator's shapes."""
    always = config.bootstrap_type == "always"
    known = [decisions(episode, per_action, always, config.reward_scale) for episode in batch]
    pairs = [reference.finite_horizon_gae(*numbers, config.gamma, config.lam) for _, *numbers in known]
    every = np.concatenate([advantages for advantages, _ in pairs])
    if config.normalize_advantages and len(every):
        every = reference.whitened(every)
    advantages, returns, done = [], [], 0
    for episode, (places, *_), (own, targets) in zip(batch, known, pairs, strict=True):
        shape = episode.rewards.shape if per_action else episode.executed.shape
        advantages.append(np.zeros(shape))
        returns.append(np.zeros(shape))
        for place, advantage, target in zip(places, every[done : done + len(own)], targets, strict=True):
            advantages[-1][place], returns[-1][place] = advantage, target
        done += len(own)
    return advantages, returns


@pytest.mark.parametrize("per_action", [False, True])
@given(
    data=st.data(),
    gamma=factors,
    lam=st.sampled_from((0.0, 0.5, 0.95, 1.0)),
    normalize=st.booleans(),
    bootstrap=st.sampled_from(("standard", "always")),
    scale=st.sampled_from((1.0, 5.0)),
)
@settings(max_examples=80, deadline=None)
def test_every_episode_is_that_of_the_equation(
    per_action: bool, data: st.DataObject, gamma: float, lam: float, normalize: bool, bootstrap: str, scale: float
) -> None:
    batch = data.draw(episodes(per_action))
    level = "action_level" if per_action else "chunk_level"
    config = AlgorithmConfig(
        gamma=gamma,
        lam=lam,
        reward_type=level,
        normalize_advantages=normalize,
        bootstrap_type=bootstrap,
        reward_scale=scale,
    )
    found, (advantages, returns) = gae(batch, config), expected(batch, config, per_action)
    assert found.returns is not None
    for got, want in zip(found.advantages + found.returns, advantages + returns, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6, strict=False)
        assert got.shape == want.shape


@given(data=st.data(), gamma=factors, lam=st.sampled_from((0.0, 0.5, 1.0)))
@settings(max_examples=40, deadline=None)
def test_returns_are_the_lambda_returns_normalized_or_not(data: st.DataObject, gamma: float, lam: float) -> None:
    batch = data.draw(episodes(per_action=False))
    for normalize in (True, False):
        config = AlgorithmConfig(gamma=gamma, lam=lam, normalize_advantages=normalize)
        for episode, got in zip(batch, gae(batch, config).returns, strict=True):
            places, *numbers = decisions(episode, per_action=False)
            want = np.zeros(got.shape)
            want[[c for (c,) in places]] = reference.lambda_return(*numbers, gamma, lam)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-5)


def one(rewards: list, values: list, truncated: bool, executed: list[int] | None = None) -> EpisodeReturns:
    array = np.array(rewards, np.float32)
    steps = np.array(executed or [array.shape[1]] * len(array))
    return EpisodeReturns(0.0, 0, array, steps, np.array(values, np.float32), truncated)


def test_an_episode_by_hand() -> None:
    """δ = 0 + 0.5·4 − 2 = 0 and 3 + 0 − 4 = −1 when it is over, 3 + 0.5·6 − 4 = 2 when the time was."""
    config = AlgorithmConfig(gamma=0.5, lam=0.5, normalize_advantages=False)
    for truncated, (first, second) in ((False, (-0.25, -1.0)), (True, (0.5, 2.0))):
        found = gae([one([[0, 0], [1, 2]], [[2], [4], [6]], truncated)], config)
        assert found.advantages[0].tolist() == [first, second]
        assert found.returns[0].tolist() == [first + 2, second + 4]


def test_rewards_are_scaled_and_values_are_not_and_an_end_may_be_none() -> None:
    config = AlgorithmConfig(gamma=0.5, lam=0.5, normalize_advantages=False, reward_scale=2, bootstrap_type="always")
    found = gae([one([[0, 0], [1, 2]], [[2], [4], [6]], truncated=False)], config)
    assert found.advantages[0].tolist() == [1.25, 5.0], "6 + 0.5·6 − 4 = 5, and 0 + 0.25·5"


def test_a_chunk_is_one_decision_and_an_action_is_one_with_actions_level() -> None:
    """γ discounts per decision, so that chunks of two actions are discounted half as often."""
    config = AlgorithmConfig(gamma=0.5, lam=1.0, normalize_advantages=False)
    chunks = gae([one([[0, 0], [0, 1]], [[0], [0], [0]], False)], config)
    assert chunks.advantages[0].tolist() == [0.5, 1.0]
    config.reward_type = "action_level"
    actions = gae([one([[0, 0], [0, 1]], [[0, 0]] * 3, False)], config)
    assert actions.advantages[0].tolist() == [[0.125, 0.25], [0.5, 1.0]]


def test_a_chunk_cut_short_is_followed_by_the_next_chunks_first_action() -> None:
    config = AlgorithmConfig(lam=0.0, reward_type="action_level", normalize_advantages=False)
    episode = one([[1, 1, 9], [1, 9, 9]], [[10, 20, 99], [30, 99, 99], [40, 99, 99]], True, executed=[2, 1])
    assert gae([episode], config).advantages[0].tolist() == [[11, 11, 0], [11, 0, 0]]


def test_only_the_units_of_the_batch_are_normalized_together() -> None:
    config = AlgorithmConfig()
    batch = [one([[1, 0]], [[0], [0]], False), one([[4, 9], [2, 5]], [[0]] * 3, False, executed=[1, 0])]
    found = gae(batch, config)
    np.testing.assert_allclose(np.concatenate(found.advantages), [-1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(found.returns), [1, 4, 0])


def test_a_single_decision_normalized_is_0() -> None:
    assert gae([one([[5.0]], [[1], [0]], False)], AlgorithmConfig()).advantages[0].tolist() == [0]


@pytest.mark.parametrize(("level", "outputs"), [("chunk_level", 2), ("action_level", 1)])
def test_values_of_the_other_level_are_an_error(level: str, outputs: int) -> None:
    with pytest.raises(AssertionError, match=f"V={outputs}"):
        gae([one([[0, 0]], [[0.0] * outputs] * 2, False)], AlgorithmConfig(reward_type=level))
