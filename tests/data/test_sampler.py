"""Order, fairness and resuming of the sampler; seeds of the episodes."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.data.sampler import PromptSampler, episode_specs, repeated_specs
from tests.data.prompts import prompts

sizes = st.lists(st.integers(1, 9), max_size=12)


def draw(sampler: PromptSampler, batches: list[int]) -> list[str]:
    return [p.prompt_id for size in batches for p in sampler.next_batch(size)]


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 13), st.booleans(), st.integers(0, 2**32), sizes)
def test_batches_are_full_and_every_prompt_comes_once_per_pass(
    number: int, shuffle: bool, seed: int, batches: list[int]
) -> None:
    sampler = PromptSampler(prompts(number), shuffle, seed)
    drawn = draw(sampler, batches)
    assert len(drawn) == sum(batches)
    for start in range(0, len(drawn), number):
        assert max(Counter(drawn[start : start + number]).values()) == 1
    counts = Counter(drawn)
    assert max(counts.values(), default=0) - min((counts[p.prompt_id] for p in prompts(number)), default=0) <= 1


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 13), st.booleans(), sizes, sizes)
def test_a_restored_sampler_goes_on_exactly(number: int, shuffle: bool, before: list[int], after: list[int]) -> None:
    sampler = PromptSampler(prompts(number), shuffle, seed=5)
    draw(sampler, before)
    state = json.loads(json.dumps(sampler.state_dict()))
    restored = PromptSampler(prompts(number), shuffle, seed=5)
    draw(restored, [3])
    restored.load_state_dict(state)
    assert draw(restored, after) == draw(sampler, after)
    assert restored.state_dict() == sampler.state_dict()


def test_the_batch_size_may_change_on_resuming() -> None:
    sampler = PromptSampler(prompts(7), True, seed=1)
    whole = draw(PromptSampler(prompts(7), True, seed=1), [20])
    first = draw(sampler, [4, 4])
    restored = PromptSampler(prompts(7), True, seed=1)
    restored.load_state_dict(sampler.state_dict())
    assert first + draw(restored, [6, 6]) == whole


def test_orders() -> None:
    ids = [p.prompt_id for p in prompts(40)]
    assert draw(PromptSampler(prompts(40), False, seed=1), [40, 40]) == ids + ids
    shuffled = draw(PromptSampler(prompts(40), True, seed=1), [40, 40])
    assert shuffled[:40] not in (ids, shuffled[40:]), "a new order in every pass"
    assert shuffled != draw(PromptSampler(prompts(40), True, seed=2), [40, 40])
    assert shuffled == draw(PromptSampler(prompts(40), True, seed=1), [40, 40])


def test_epoch_and_position() -> None:
    sampler = PromptSampler(prompts(5), True, seed=0)
    sampler.next_batch(5)
    assert (sampler.epoch, sampler.position) == (0, 5)
    sampler.next_batch(7)
    assert (sampler.epoch, sampler.position) == (2, 2)


def test_a_state_of_other_prompts_or_another_order_is_refused() -> None:
    state = PromptSampler(prompts(5), True, seed=0).state_dict()
    with pytest.raises(ValueError, match=r"prompts=5, this run has prompts=6"):
        PromptSampler(prompts(6), True, seed=0).load_state_dict(state)
    with pytest.raises(ValueError, match=r"seed=0, this run has seed=1.*resume_mode=disable"):
        PromptSampler(prompts(5), True, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"shuffle=True, this run has shuffle=False"):
        PromptSampler(prompts(5), False, seed=0).load_state_dict(state)
    with pytest.raises(ValueError, match=r"prompts_sha256="):
        PromptSampler(prompts(6)[1:], True, seed=0).load_state_dict(state)


def test_no_prompts_are_never_drawn_from() -> None:
    sampler = PromptSampler([], True, seed=0)
    with pytest.raises(AssertionError, match="only validates"):
        sampler.next_batch(1)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 2**32), st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_training_episodes(seed: int, step: int, groups: int, n: int, first: int) -> None:
    specs = episode_specs(prompts(groups), n=n, seed=seed, step=step, first_group=first)
    assert [(s.group_id, s.index) for s in specs] == [(first + g, i) for g in range(groups) for i in range(n)]
    assert [s.prompt_id for s in specs] == [p.prompt_id for p in prompts(groups) for _ in range(n)]
    assert {s.max_steps for s in specs} == {100}
    assert len({(s.group_id, s.env_seed) for s in specs}) == groups, "one simulator seed per group"
    assert len({s.env_seed for s in specs}) == groups
    assert len({s.action_seed for s in specs}) == groups * n, "every episode samples its own actions"
    assert all(0 <= s.env_seed < 2**32 and 0 <= s.action_seed < 2**63 for s in specs)
    assert specs == episode_specs(prompts(groups), n=n, seed=seed, step=step, first_group=first)


def test_training_seeds_depend_on_seed_step_and_group() -> None:
    def seeds(seed: int, step: int, first: int) -> tuple[int, int]:
        (spec,) = episode_specs(prompts(1), n=1, seed=seed, step=step, first_group=first)
        return spec.env_seed, spec.action_seed

    different = [seeds(0, 1, 0), seeds(1, 1, 0), seeds(0, 2, 0), seeds(0, 1, 1)]
    assert len({env for env, _ in different}) == len({action for _, action in different}) == 4


def test_a_larger_group_begins_with_the_same_episodes() -> None:
    small = episode_specs(prompts(3), n=2, seed=0, step=1)
    large = episode_specs(prompts(3), n=4, seed=0, step=1)
    assert [s for s in large if s.index < 2] == small


def test_validation_seeds_hang_on_the_prompt_alone() -> None:
    several = episode_specs(prompts(6), n=2, seed=3, step=None)
    (alone,) = episode_specs(prompts(6)[4:5], n=1, seed=3, step=None)
    again = several[8]
    assert (alone.prompt_id, alone.env_seed, alone.action_seed) == (again.prompt_id, again.env_seed, again.action_seed)
    assert [s.group_id for s in several] == [g for g in range(6) for _ in range(2)]
    assert len({s.action_seed for s in several}) == 12
    trained = episode_specs(prompts(6), n=2, seed=3, step=0)
    assert not {s.env_seed for s in several} & {s.env_seed for s in trained}


def test_an_evaluation_begins_with_the_episodes_of_validation_and_repeats_with_other_seeds() -> None:
    specs = repeated_specs(prompts(6), repetitions=3, seed=3)
    assert specs[:6] == episode_specs(prompts(6), n=1, seed=3, step=None)
    assert [(s.group_id, s.index) for s in specs] == [(g, r) for r in range(3) for g in range(6)]
    assert len({s.env_seed for s in specs}) == len({s.action_seed for s in specs}) == 18
    assert repeated_specs(prompts(6), repetitions=2, seed=3) == specs[:12]
    fewer = {(s.prompt_id, s.index): s.env_seed for s in repeated_specs(prompts(6)[2:], repetitions=3, seed=3)}
    assert fewer.items() <= {(s.prompt_id, s.index): s.env_seed for s in specs}.items()
    assert {s.env_seed for s in repeated_specs(prompts(6), repetitions=3, seed=4)}.isdisjoint(s.env_seed for s in specs)
