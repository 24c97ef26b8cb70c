"""Batches of imagined and real prompts: their share, their passes, and where a run goes on."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.config.environments import TRAINING, VALIDATION
from siirl.config.schema import Config
from siirl.data.manifest import Prompt
from siirl.data.mixture import MixedSampler, training_sampler
from siirl.data.sampler import PromptSampler, episode_specs
from tests.data.prompts import prompts

sizes = st.lists(st.integers(1, 9), max_size=12)
shares = st.floats(0, 1, exclude_min=True)


def real(number: int) -> list[Prompt]:
    return [replace(prompt, env=VALIDATION) for prompt in prompts(number)]


def mixed(fraction: float, seed: int = 0) -> MixedSampler:
    return MixedSampler(PromptSampler(prompts(7), True, seed), PromptSampler(real(3), True, seed), fraction)


@given(shares, sizes)
def test_the_share_holds_from_the_start_of_the_run_on(fraction: float, batches: list[int]) -> None:
    sampler = mixed(fraction)
    drawn: list[Prompt] = []
    for size in batches:
        batch = sampler.next_batch(size)
        assert len(batch) == size
        drawn += batch
        assert abs(sum(prompt.env == VALIDATION for prompt in drawn) - fraction * len(drawn)) <= 0.5 + 1e-9
    for env in (TRAINING, VALIDATION):
        counts = Counter(prompt.prompt_id for prompt in drawn if prompt.env == env)
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1, "in passes of its own"


@given(shares, sizes, sizes)
def test_it_goes_on_where_it_stood(fraction: float, before: list[int], after: list[int]) -> None:
    sampler = mixed(fraction)
    for size in before:
        sampler.next_batch(size)
    other = mixed(fraction)
    other.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert [sampler.next_batch(size) for size in after] == [other.next_batch(size) for size in after]


def test_another_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has real_fraction=0\.25, this run has 0\.5.*the same actor_rollout_ref"):
        mixed(0.5).load_state_dict(mixed(0.25).state_dict())
    with pytest.raises(ValueError, match=r"has real_fraction=0\.0, this run has 0\.5"):
        mixed(0.5).load_state_dict(PromptSampler(prompts(7), True, 0).state_dict())


def test_a_group_has_the_environment_of_its_prompt() -> None:
    config = Config()
    config.actor_rollout_ref.embodied.real_fraction = 0.5
    sampler = training_sampler(prompts(7) + real(3), config)
    specs = episode_specs(sampler.next_batch(4), n=3, seed=0, step=1)
    envs = {spec.group_id: {other.env for other in specs if other.group_id == spec.group_id} for spec in specs}
    assert envs == {0: {TRAINING}, 1: {TRAINING}, 2: {VALIDATION}, 3: {VALIDATION}}
    assert isinstance(training_sampler(prompts(7), Config()), PromptSampler)
