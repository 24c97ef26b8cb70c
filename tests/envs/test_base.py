"""Observations, from an environment into trajectories and back."""

from dataclasses import replace

import numpy as np
import pytest

from siirl.envs.base import EnvObs
from siirl.policies.base import stack_observations
from tests.policies.observations import observe

EXTRA = np.random.default_rng(3).integers(0, 256, (2, 2, 48, 48, 3), dtype=np.uint8)


def restored(obs: EnvObs) -> EnvObs:
    return stack_observations(obs.views(), obs.states, obs.task_descriptions)


@pytest.mark.parametrize("wrist", [False, True])
def test_a_stored_observation_is_read_back(wrist: bool) -> None:
    obs = observe(2, wrist=wrist)
    assert same(restored(obs), obs)


@pytest.mark.parametrize(("extra", "stored"), [(EXTRA, EXTRA), (EXTRA[:, 0], EXTRA[:, :1])], ids=["two", "one"])
def test_extra_views_are_kept(extra: np.ndarray, stored: np.ndarray) -> None:
    obs = replace(observe(2, wrist=True), extra_view_images=extra)
    assert same(restored(obs), replace(obs, extra_view_images=stored))


def test_views_that_cannot_be_stored_are_refused() -> None:
    with pytest.raises(ValueError, match="extra_view_images but no wrist_images"):
        replace(observe(2), extra_view_images=EXTRA).views()
    with pytest.raises(ValueError, match="give all views one size"):
        replace(observe(2, wrist=True), extra_view_images=EXTRA[:, :, :24]).views()


def same(one: EnvObs, other: EnvObs) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )
