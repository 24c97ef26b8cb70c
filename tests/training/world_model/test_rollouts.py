"""What training reads of recorded rollouts, and which windows it takes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.data.lerobot import read
from siirl.training.world_model.networks import labelled, taken, windows
from siirl.training.world_model.rollouts import Rollout, Rollouts, action_statistics, read_rollouts
from tests.data.lerobot.folders import episode, write
from tests.training.world_model.rollouts import INSTRUCTION, picture, rollout, write_rollouts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Rollouts:
    folder = tmp_path_factory.mktemp("rollouts")
    write_rollouts(folder)
    return read_rollouts([read(folder)])


def test_frames_actions_and_outcomes_are_what_was_recorded(data: Rollouts) -> None:
    assert len(data.episodes) == 10
    for number, one in enumerate(data.episodes):
        recorded, frames = rollout(number, speed=0.1 if number % 3 == 2 else 0.8)
        assert (one.instruction, one.trial, one.success) == (INSTRUCTION, number, number % 3 != 2)
        np.testing.assert_array_equal(one.actions, recorded.actions[:-1])
        np.testing.assert_array_equal(data.frames[one.first : one.first + one.length], frames)
    assert sum(one.length for one in data.episodes) == len(data.frames)


def test_the_last_trials_are_held_out(data: Rollouts) -> None:
    train, held = data.split(0.2)
    assert [one.trial for one in held] == [8, 9]
    assert len(train) == 8
    alone = Rollouts(data.frames, data.episodes[:1])
    with pytest.raises(ValueError, match=r"at least 2 are needed"):
        alone.split(0.2)


def test_demonstrations_are_no_rollouts(tmp_path: Path) -> None:
    write(tmp_path, [[episode(0), episode(1)]])
    with pytest.raises(ValueError, match=r"holds demonstrations.*collect-demos --rollouts"):
        read_rollouts([read(tmp_path)])


def one_episode(length: int = 5) -> Rollout:
    actions = np.arange(length * 7, dtype=np.float32).reshape(length, 7)
    return Rollout("x", 0, first=100, actions=actions, success=True)


def test_windows_repeat_the_first_frame_and_the_last() -> None:
    frames, actions = windows(one_episode(), torch.tensor([0, 3]), condition=3, chunk=4)
    assert frames.tolist() == [[100, 100, 100, 101, 102, 103, 104], [101, 102, 103, 104, 105, 105, 105]]
    assert actions.tolist() == [[0, 1, 2, 3], [3, 4, -1, -1]]
    moves = taken(one_episode(), actions)
    np.testing.assert_array_equal(moves[1, :2], one_episode().actions[3:])
    assert moves[1, 2:].tolist() == [[0] * 6 + [34]] * 2, "at rest, the gripper as it was"


def test_an_action_leads_from_its_frame_to_the_next() -> None:
    recorded, frames = rollout(0, 0.8)
    place = 0.0
    for action, after in zip(recorded.actions[:-1], frames[1:], strict=True):
        place = min(max(place + 2 * float(action[0]), 0), 22)
        np.testing.assert_array_equal(after, picture(place))


def test_only_the_last_frame_of_a_success_shows_it() -> None:
    failed = Rollout("x", 1, first=0, actions=np.zeros((3, 7), np.float32), success=False)
    positive, negative = labelled([failed, one_episode()])
    assert positive.tolist() == [105]
    assert negative.tolist() == [0, 1, 2, 3, 100, 101, 102]


def test_statistics_keep_apart_what_hardly_varies(data: Rollouts) -> None:
    action = action_statistics(data.episodes)["action"]
    assert isinstance(action, dict)
    low, high = np.array(action["q01"]), np.array(action["q99"])
    assert (low < high).all()
    assert low[0] < 0.1
    assert high[0] > 0.8
