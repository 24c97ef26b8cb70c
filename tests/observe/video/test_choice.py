"""Which episodes get a video."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.data.trajectory import CANCELLED, EpisodeSummary
from siirl.observe.video.choice import choose, file_name
from tests.observe.video.films import outcomes, spec


def summary(task: int, group: int, index: int, success: bool, drop_reason: str | None = None) -> EpisodeSummary:
    return EpisodeSummary(spec(task, group, index), success, 24, 3, not success, 0, drop_reason)


batches = st.lists(
    st.builds(
        summary,
        task=st.integers(0, 2),
        group=st.integers(0, 3),
        index=st.integers(0, 3),
        success=st.booleans(),
        drop_reason=st.sampled_from([None, None, CANCELLED]),
    ),
    unique_by=lambda s: s.spec,
)


def test_failures_come_first_and_one_of_several_is_a_success() -> None:
    episodes = [summary(0, 0, index, success=index in (1, 2)) for index in range(6)]
    assert outcomes(choose(episodes, 1)) == [(0, 0, 0, False)]
    assert outcomes(choose(episodes, 2)) == [(0, 0, 0, False), (0, 0, 1, True)]
    assert outcomes(choose(episodes, 3)) == [(0, 0, 0, False), (0, 0, 3, False), (0, 0, 1, True)]


@pytest.mark.parametrize("success", [False, True])
def test_one_kind_alone_takes_every_place(success: bool) -> None:
    episodes = [summary(0, 0, index, success) for index in range(4)]
    assert [s.spec.index for s in choose(episodes, 3)] == [0, 1, 2]


@given(batches, st.integers(1, 4))
def test_no_task_has_more_than_it_may_and_none_is_left_out(episodes: list[EpisodeSummary], most: int) -> None:
    chosen = choose(episodes, most)
    ended = [s for s in episodes if s.drop_reason != CANCELLED]
    for task in range(3):
        of_task = [s for s in ended if s.spec.task_id == task]
        taken = [s for s in chosen if s.spec.task_id == task]
        assert len(taken) == min(most, len(of_task))
        assert set(taken) <= set(of_task)
        if any(not s.success for s in of_task):
            assert not taken[0].success


@given(batches, st.integers(1, 4), st.randoms())
def test_who_is_chosen_of_all_is_chosen_of_every_part(
    episodes: list[EpisodeSummary], most: int, random: object
) -> None:
    chosen = choose(episodes, most)
    mixed = sorted(episodes, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert choose(mixed, most) == chosen
    for part in (mixed[::2], mixed[1::2]):
        assert {s for s in chosen if s in part} <= set(choose(part, most))


@given(batches, st.integers(1, 4))
def test_who_was_let_go_is_never_missed(episodes: list[EpisodeSummary], most: int) -> None:
    held: list[EpisodeSummary] = []
    for episode in episodes:
        held = choose([*held, episode], most)
    assert held == choose(episodes, most)


def test_names_tell_episode_and_outcome_apart() -> None:
    names = [
        file_name(12, summary(3, 5, 2, success=False)),
        file_name(12, summary(3, 5, 2, success=True)),
        file_name(12, summary(3, 5, 2, success=False, drop_reason="nan_action")),
    ]
    start = "step_000012/libero_spatial_task3_trial5_group5_rep2_"
    assert names == [f"{start}failure.mp4", f"{start}success.mp4", f"{start}dropped.mp4"]
