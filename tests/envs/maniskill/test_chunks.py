"""The bookkeeping of slots that step together, against playing each slot alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from siirl.envs.maniskill.chunks import Played, play
from tests.envs.maniskill.scenes import CountingScenes


def chunk(count: int, length: int) -> np.ndarray:
    """Every action counts one."""
    actions = np.zeros((count, length, 7), np.float32)
    actions[..., 0] = 1
    return actions


def alone(goal: float, length: int, steps_left: int) -> Played:
    """One slot by itself."""
    return play(CountingScenes([goal]), [0], chunk(1, length), np.array([steps_left]))


@given(st.data())
def test_every_slot_of_a_batch_fares_as_it_would_alone(data: st.DataObject) -> None:
    total, length = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    goals = data.draw(st.lists(st.integers(1, 8), min_size=total, max_size=total))
    slots = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=total, unique=True))
    left = np.array(data.draw(st.lists(st.integers(1, 8), min_size=len(slots), max_size=len(slots))))
    played = play(CountingScenes(goals), slots, chunk(len(slots), length), left)
    assert played.rewards.shape == (len(slots), length)
    for row, slot in enumerate(slots):
        expected = alone(goals[slot], length, left[row])
        for name in ("rewards", "success", "terminated", "executed"):
            np.testing.assert_array_equal(getattr(played, name)[row], getattr(expected, name)[0])
        np.testing.assert_array_equal(played.look.states[row], expected.look.states[0])
        np.testing.assert_array_equal(played.look.pictures[0][row], expected.look.pictures[0][0])


def test_pictures_are_taken_when_a_slot_ends_and_at_the_end_only() -> None:
    scenes = CountingScenes([2, 99, 4])
    played = play(scenes, [0, 1, 2], chunk(3, 6), np.array([9, 9, 9]))
    assert scenes.calls == ["step", "step", "render", "step", "step", "render", "step", "step", "render"]
    assert played.executed.tolist() == [2, 6, 4]
    assert played.look.states[:, 0].tolist() == [2, 6, 4]


def test_nothing_is_simulated_when_all_have_ended() -> None:
    scenes = CountingScenes([2, 1])
    played = play(scenes, [0, 1], chunk(2, 6), np.array([9, 9]))
    assert scenes.calls.count("step") == 2
    assert played.rewards.tolist() == [[1, 2, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]


def test_slots_that_are_not_named_stand_still() -> None:
    scenes = CountingScenes([9, 9, 9])
    play(scenes, [1], chunk(1, 3), np.array([9]))
    assert scenes.counters.tolist() == [0, 3, 0]
