"""Conversion and limits of every key, on its own."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from siirl.config.keys import KEYS, SECTIONS, Key, convert
from siirl.config.problems import ConfigError, mentions, problem, show
from siirl.config.suggest import suggest

WRONG = {bool: "maybe", int: 1.5, float: "fast", str: 1.5}


def refused(key: Key, value: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        convert(key, value)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_key_has_a_meaning_and_a_default_that_it_allows(key: Key) -> None:
    assert len(key.doc) > 3
    assert key.doc.endswith(".")
    assert convert(key, key.default) == key.default


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_key_refuses_another_type_and_says_the_key_the_value_and_the_fix(key: Key) -> None:
    wrong = [WRONG[key.item]] if key.is_list else WRONG[key.item]
    line = refused(key, wrong)
    assert line.startswith(f"{key.name}={show(wrong)}: allowed: ")
    assert "Fix: " in line
    assert key.name in line.partition("Fix: ")[2] or "Did you mean" in line


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_null_is_for_optional_keys_alone(key: Key) -> None:
    if key.optional:
        assert convert(key, None) is None
    else:
        assert "=null: " in refused(key, None)


@pytest.mark.parametrize("key", [k for k in KEYS.values() if k.minimum is not None], ids=lambda k: k.name)
def test_minimum_is_inclusive(key: Key) -> None:
    assert key.minimum is not None
    assert convert(key, key.item(key.minimum)) == key.minimum
    assert f"≥ {show(key.minimum)}" in refused(key, key.item(key.minimum - 1))


@pytest.mark.parametrize("key", [k for k in KEYS.values() if k.maximum is not None], ids=lambda k: k.name)
def test_maximum_is_inclusive(key: Key) -> None:
    assert key.maximum is not None
    assert convert(key, key.item(key.maximum)) == key.maximum
    assert f"≤ {show(key.maximum)}" in refused(key, key.item(key.maximum + 1))


@pytest.mark.parametrize("key", [k for k in KEYS.values() if k.above is not None], ids=lambda k: k.name)
def test_above_is_exclusive(key: Key) -> None:
    assert f"> {show(key.above)}" in refused(key, key.item(key.above))


@pytest.mark.parametrize("key", [k for k in KEYS.values() if k.choices is not None], ids=lambda k: k.name)
def test_only_the_choices_are_allowed(key: Key) -> None:
    assert key.choices is not None
    for choice in key.choices:
        value = [choice] if key.is_list else choice
        assert convert(key, value) == value
    other = 99 if key.item is int else "nothing-like-it"
    line = refused(key, [other] if key.is_list else other)
    assert all(show(choice) in line for choice in key.choices)


def test_numbers_are_read_generously_but_not_silently_changed() -> None:
    lr, batch = KEYS["actor_rollout_ref.actor.optim.lr"], KEYS["data.train_batch_size"]
    assert convert(lr, "1e-5") == 1e-5
    assert isinstance(convert(lr, 1), float)
    assert convert(KEYS["trainer.experiment_name"], 7) == "7"
    assert "a whole number" in refused(batch, 64.0)
    assert "a whole number" in refused(batch, "64")
    assert "a whole number" in refused(batch, True)
    assert "a number" in refused(lr, False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "inf", 10**400])
def test_numbers_are_finite(value: Any) -> None:
    refused(KEYS["actor_rollout_ref.actor.optim.lr"], value)


def test_a_single_number_for_a_list_is_told_to_wear_brackets_and_a_single_text_is_a_list_of_one() -> None:
    betas = "actor_rollout_ref.actor.optim.betas"
    assert f"{betas}=[0.9]" in refused(KEYS[betas], 0.9)
    assert convert(KEYS["trainer.logger"], "console") == ["console"]
    assert "each one of console, tensorboard" in refused(KEYS["trainer.logger"], "consol")


PLACED = KEYS["cluster.component_placement"]


def test_a_mapping_holds_texts_and_a_list_stands_for_its_items() -> None:
    assert convert(PLACED, {"env": 0, "rollout": [1, "4-7"], "actor": "all"}) == {
        "env": "0",
        "rollout": "1,4-7",
        "actor": "all",
    }


@pytest.mark.parametrize("value", ["0-3", 3, ["env"], {"env": None}, {"env": True}, {"env": 1.5}, {"env": {"a": 0}}])
def test_a_mapping_holds_nothing_else(value: Any) -> None:
    assert "a mapping of names to texts, whole numbers or lists of them, or null" in refused(PLACED, value)


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(sorted(KEYS)), st.integers(0, 200), st.sampled_from("abcxyz_"))
@example("actor_rollout_ref.embodied.env.world_model.vae_path", 43, "a")
def test_a_typo_in_a_full_name_is_recognised(name: str, position: int, letter: str) -> None:
    """One letter inserted somewhere: the key meant is suggested, unless the typo names another key."""
    place = position % (len(name) + 1)
    typo = name[:place] + letter + name[place:]
    leaf = name.rpartition(".")[2]
    if typo not in KEYS and len(leaf) > 3:
        assert suggest(typo) == f"did you mean {name}?"


@pytest.mark.parametrize(
    ("given_name", "meant"),
    [
        ("embodied.img_size", "actor_rollout_ref.embodied.embedding_img_size"),
        ("actor_rollout_ref.embodied.enable_fp16", "actor_rollout_ref.embodied.embedding_enable_fp16"),
        ("optim.lr", "actor_rollout_ref.actor.optim.lr"),
        ("trainer.gpus_per_node", "trainer.n_gpus_per_node"),
        ("env.max_step", "actor_rollout_ref.embodied.env.max_steps"),
        ("actor_rollout_ref.num_envs", "actor_rollout_ref.embodied.env.num_envs"),
        ("trainer.resume_path", "trainer.resume_from_path"),
        ("cluster.num_node", "cluster.num_nodes"),
        ("cluster.gpus_per_node", "cluster.num_gpus_per_node"),
        ("rollout.pipeline_stages_num", "rollout.pipeline_stage_num"),
        ("cluster.placement.env", "cluster.component_placement.env"),
        ("component_placement.actor", "cluster.component_placement.actor"),
    ],
)
def test_a_part_of_the_last_name_is_enough(given_name: str, meant: str) -> None:
    assert suggest(given_name) == f"did you mean {meant}?"


def test_nothing_is_suggested_for_something_else() -> None:
    assert suggest("quux.zzz") == ""


def test_sections_and_keys_are_disjoint() -> None:
    assert not set(SECTIONS) & set(KEYS)


def test_mentions_whole_keys_alone() -> None:
    line = problem("actor_rollout_ref.rollout.name", "x", "hf", "actor_rollout_ref.rollout.name=hf")
    assert mentions(line, ["actor_rollout_ref.rollout.name"])
    assert not mentions(line, ["actor_rollout_ref.rollout.n", "rollout.name", "actor_rollout_ref.rollout"])
