"""Success and reward, on numbers."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from siirl.envs.maniskill.scene25.success import Progress, on_plate, rotated_extents

OBJECT, PLATE = torch.tensor([[0.06, 0.02, 0.03]]), torch.tensor([[0.11, 0.11, 0.006]])
RESTING = 0.018


def placed(x: float = 0.0, y: float = 0.0, z: float = RESTING, force: float = 1.0) -> bool:
    return bool(on_plate(torch.tensor([[x, y, z]]), OBJECT, PLATE, torch.tensor([force]))[0])


def test_on_the_plate() -> None:
    assert placed()
    assert placed(x=0.064)
    assert placed(z=RESTING + 0.049)


def test_not_on_the_plate() -> None:
    assert not placed(x=0.066)
    assert not placed(x=0.05, y=0.05), "round: half the longest side and 1 cm"
    assert not placed(z=RESTING + 0.051), "held above it"
    assert not placed(z=-0.001), "under it"
    assert not placed(force=0.02), "not touching"


@given(st.lists(st.floats(0.001, 0.2), min_size=3, max_size=3), st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_extents_of_a_turned_box(size: list[float], turn: list[float]) -> None:
    rotation = Rotation.from_rotvec(turn).as_matrix()
    corners = np.array(list(itertools.product(*[(-s / 2, s / 2) for s in size]))) @ rotation.T
    found = rotated_extents(torch.tensor([size]), torch.tensor(rotation, dtype=torch.float32)[None])
    np.testing.assert_allclose(found[0], np.ptp(corners, axis=0), atol=1e-5)


def run(grasping: list[int], success: list[int]) -> list[float]:
    progress = Progress(1, torch.device("cpu"))
    rewards = []
    for i, (g, s) in enumerate(zip(grasping, success, strict=True)):
        for _ in range(2):  # looking twice changes nothing
            progress.update(torch.tensor([i + 1]), torch.tensor([bool(g)]), torch.tensor([bool(s)]))
        rewards.append(round(float(progress.reward[0]), 5))
    return rewards


def test_rewards_of_an_episode() -> None:
    assert run([0, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1]) == [0, 0.1, 0, 0, 0, 0.1, 1.0]


def test_a_broken_grasp_is_not_held() -> None:
    assert run([1, 1, 1, 1, 0, 1, 1], [0] * 7) == [0.1, 0, 0, 0, 0, 0, 0]


def test_no_reward_for_success_without_a_grasp() -> None:
    assert run([0, 0], [0, 1]) == [0, 0]


def test_falling_off_takes_the_reward_back() -> None:
    assert run([1, 0, 0], [0, 1, 0]) == [0.1, 1.0, -1.0]


def test_slots_are_apart() -> None:
    progress = Progress(2, torch.device("cpu"))
    step, yes = torch.tensor([1, 1]), torch.tensor([True, True])
    progress.update(step, yes, ~yes)
    progress.reset(torch.tensor([1]))
    assert progress.grasped.tolist() == [True, False]
    progress.update(torch.tensor([2, 1]), ~yes, yes)
    torch.testing.assert_close(progress.reward, torch.tensor([1.0, 0.0]))
