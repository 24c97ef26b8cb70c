import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.policies.prismatic.actions import ActionCodec, Bounds, find_statistics
from tests.policies.tiny import STATISTICS

CODEC = ActionCodec(Bounds.from_statistics(STATISTICS["libero_spatial_no_noops"]["action"]))


@given(st.lists(st.floats(-1, 1), min_size=7, max_size=7))
def test_decoding_a_label_gives_the_action_back_within_half_a_bin(fractions: list[float]) -> None:
    actions = CODEC.bounds.unnormalise(np.array(fractions))
    bins = CODEC.encode(actions)
    assert bins.min() >= 0
    assert bins.max() <= 255
    half_bin = np.where(CODEC.bounds.mask, (CODEC.bounds.high - CODEC.bounds.low) / 2, 1) / 255
    assert np.all(np.abs(CODEC.decode(bins) - actions) <= half_bin + 1e-7)


def test_labels_beyond_the_quantiles_are_clipped() -> None:
    assert np.array_equal(CODEC.encode(np.full(7, 9.0)), np.zeros(7))
    assert np.array_equal(CODEC.encode(np.full(7, -9.0)), np.full(7, 255))


def test_bins_are_numbered_like_tokens_and_the_two_lowest_decode_alike() -> None:
    decoded = ActionCodec(Bounds(np.zeros(1), np.ones(1), np.array([False]))).decode(np.arange(256)[:, None])[:, 0]
    assert decoded[0] == decoded[1] == pytest.approx(1 - 1 / 255)
    assert decoded[255] == pytest.approx(-1 + 1 / 255)
    assert np.all(np.diff(decoded[1:]) < 0)


def test_gripper_keeps_its_value() -> None:
    for gripper in (0.0, 1.0):
        action = np.array([0, 0, 0, 0, 0, 0, gripper])
        assert CODEC.decode(CODEC.encode(action))[6] == pytest.approx(gripper, abs=1 / 255 + 1e-7)


@pytest.mark.parametrize(
    ("key", "stored"),
    [
        ("libero_goal", "libero_goal"),
        ("libero_goal", "libero_goal_no_noops"),
        ("libero_goal_no_noops", "libero_goal"),
        ("libero_long", "libero_10_no_noops"),
        ("libero_10", "libero_long"),
        ("libero_10_no_noops", "libero_10"),
    ],
)
def test_statistics_are_found_by_suite_and_alias(key: str, stored: str) -> None:
    assert find_statistics({stored: {"action": 1}, "other": {}}, key) == {"action": 1}


def test_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'libero_goat'.*libero_goal, libero_object.*Did you mean 'libero_goal'"):
        find_statistics({"libero_object": {}, "libero_goal": {}}, "libero_goat")
