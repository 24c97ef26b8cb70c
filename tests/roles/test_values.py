"""What a rollout records for PPO: rewards of each action, values of each observation, and what was still to come."""

from typing import Any

import numpy as np
import pytest
import torch

from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.policies.base import ActionChunk, Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from siirl.roles.slots import Died, Ready
from tests.roles.scripted import CHUNK, ScriptedPool, SeededPolicy, spec


class Rewarding(ScriptedPool):
    """Every executed action is worth 1 more than the one before."""

    def _answer(self, slot: int) -> Ready:
        before = self._at[slot]
        answer = super()._answer(slot)
        if self._at[slot] > before:
            executed = self._at[slot] - before
            answer.result.rewards[0, :executed] = before + 1 + np.arange(executed)
        return answer


class Valuing(SeededPolicy):
    """The value of an observation is 100 · episode + step."""

    def __init__(self, nan_at: int | None = None) -> None:
        super().__init__()
        self.valued: list[int] = []
        self.nan_at = nan_at

    def act(self, inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
        chunk = super().act(inputs, sampling)
        chunk.values = self._values(inputs)
        return chunk

    def value(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        self.valued.append(len(inputs["states"]))
        return self._values(inputs)

    def _values(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        values = inputs["states"] @ torch.tensor([[100.0], [1.0]])
        return values if self.nan_at is None else values.where(inputs["states"][:, 1:] != self.nan_at, torch.nan)


def run(
    policy: SeededPolicy,
    specs: list[EpisodeSpec],
    slots: int = 2,
    bootstrap: str | None = "standard",
    pool: type[ScriptedPool] = Rewarding,
    **options: Any,
) -> list[Trajectory]:
    rollout = Rollout(policy, pool(slots), **options)
    rollout.release(step=0, version=3)
    done = list(rollout.run(EpisodeQueue(specs), Sampling(True, 1.0), after=0, bootstrap=bootstrap))
    return sorted(done, key=lambda t: t.summary.spec.trial_id)


def test_rewards_and_values_are_those_of_their_chunks() -> None:
    ended, cut = run(Valuing(), [spec(1, length=6), spec(2, length=99, max_steps=9)])
    assert ended.rewards.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert ended.values is not None
    assert ended.values[:, 0].tolist() == [100, 104, 0], "nothing comes after an end"
    assert not ended.summary.truncated
    assert ended.summary.reward_sum == 21
    assert cut.rewards.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 0, 0]]
    assert cut.values is not None
    assert cut.values[:, 0].tolist() == [200, 204, 208, 209], "more would have come"
    assert cut.summary.truncated


def test_only_truncated_episodes_are_valued_once_more_and_only_when_asked() -> None:
    specs = [spec(1, length=6), spec(2, length=99, max_steps=9), spec(3, length=99, max_steps=8)]
    policy = Valuing()
    run(policy, specs)
    assert sum(policy.valued) == 2
    policy = Valuing()
    assert run(policy, specs, bootstrap=None)[1].values[-1] == 0
    assert policy.valued == []
    ended, *_ = run(policy, specs, bootstrap="always")
    assert sum(policy.valued) == 3
    assert ended.values is not None
    assert ended.values[:, 0].tolist() == [100, 104, 106], "it was over, and counts as if it was not"


class Together(Rewarding):
    """All slots answer at once, as those of a batched simulator do."""

    def wait(self, block: bool) -> list[Ready | Died]:
        return [self._answer(slot) for slot in sorted(self._pending)]


@pytest.mark.parametrize(("options", "most"), [({}, 5), ({"pipeline_stage_num": 2}, 3), ({"deterministic": True}, 1)])
def test_episodes_that_are_cut_off_together_are_valued_together(options: dict[str, Any], most: int) -> None:
    policy = Valuing()
    done = run(policy, [spec(i, length=99, max_steps=9) for i in range(5)], 5, pool=Together, **options)
    assert (sum(policy.valued), max(policy.valued)) == (5, most)
    assert [trajectory.values[-1, 0] for trajectory in done] == [100 * i + 9 for i in range(5)]


def test_one_value_that_is_not_a_number_drops_its_own_episode_alone() -> None:
    specs = [spec(1, length=99, max_steps=9), spec(2, length=99, max_steps=11)]
    done = run(Valuing(nan_at=11), specs, pool=Together)
    assert [trajectory.summary.drop_reason for trajectory in done] == [None, "nan_value"]


@pytest.mark.parametrize("nan_at", [CHUNK, 9], ids=["while it runs", "after its last step"])
def test_an_episode_whose_value_is_not_a_number_is_dropped(nan_at: int) -> None:
    (trajectory,) = run(Valuing(nan_at), [spec(2, length=99, max_steps=9)])
    assert trajectory.summary.drop_reason == "nan_value"


def test_without_a_value_head_there_are_no_values() -> None:
    (trajectory,) = run(SeededPolicy(), [spec(2, length=99, max_steps=9)])
    assert trajectory.values is None
    assert trajectory.summary.truncated
