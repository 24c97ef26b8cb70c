"""Where things start."""

import numpy as np

from siirl.envs.maniskill.scene25 import layouts


def test_pairs_lie_in_the_training_square_and_apart() -> None:
    places = layouts.usual().places
    assert places.shape == (784, 2, 3)
    np.testing.assert_allclose(places[..., :2].min((0, 1)), (-0.235, -0.075))
    np.testing.assert_allclose(places[..., :2].max((0, 1)), (-0.085, 0.075))
    assert np.linalg.norm(places[:, 0, :2] - places[:, 1, :2], axis=1).min() > 0.07
    assert (places[..., 2] == 0.95).all()
    np.testing.assert_allclose(places[0], [(-0.235, -0.075, 0.95), (-0.235, 0.015, 0.95)])  # row by row from one corner


def test_held_out_places_and_yaws_are_new() -> None:
    both = layouts.with_surroundings()
    places, yaws = both.num_train
    inner, ring = both.places[:places, :, :2], both.places[places:, :, :2]
    assert len(ring) == 628
    from_centre = np.abs(ring - np.array([-0.16, 0.0])).max(-1)
    np.testing.assert_allclose(from_centre, 0.105)
    assert np.abs(inner - np.array([-0.16, 0.0])).max() < 0.0751
    turns = both.yaws[:, None] - both.yaws[None]
    assert np.abs(np.sin(turns[:yaws, yaws:])).min() > 0.3, "not even a half turn makes them equal"


def test_of_three_the_third_is_far_from_its_like() -> None:
    for third, like, other in (("object", 0, 1), ("plate", 1, 0)):
        places = layouts.of_three(third).places
        assert places.shape[1:] == (3, 3)
        gap = np.linalg.norm(places[:, :, None, :2] - places[:, None, :, :2], axis=-1)
        assert gap[:, 2, like].min() > 0.15
        assert gap[:, 2, other].min() > 0.07
        assert gap[:, 0, 1].min() > 0.07


def test_arms() -> None:
    offsets = layouts.arm_offsets()
    assert offsets.shape == (14376, 8)
    assert (offsets[0] == 0).all()
    assert np.abs(offsets[:, 1] + offsets[:, 2]).max() < 0.25
    assert (np.abs(offsets).max(0) == [0.15, 0.15, 0.15, 0.15, 0.15, 0.6, 0, 0]).all()
