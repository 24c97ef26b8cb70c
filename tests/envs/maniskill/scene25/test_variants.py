"""Which episodes there are: numbering as published, and what each variant holds out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.envs.maniskill.scene25.objects import OBJECTS, PLATES, spoken
from siirl.envs.maniskill.scene25.variants import OBJ_SETS, VARIANTS, Scenario, Split, all_splits
from siirl.envs.maniskill.suites import SUITES

AXES = ("object", "plate", "third", "texture", "template", "arm", "table", "place", "yaw", "moves")
SPLITS = {split.name: split for split in all_splits()}


def some_scenarios(split: Split) -> list[Scenario]:
    rng = np.random.default_rng(0)
    return [split.scenario(int(i)) for i in rng.integers(0, split.num_episodes, 6000)]


@given(st.integers(0, 2**40))
def test_episodes_are_numbered_as_published(number: int) -> None:
    """The published formulas: object, plate, texture or words or arm, table, place, yaw, from the slowest to the fastest."""
    for obj_set, objects, tables in (("train", range(16), range(16)), ("test", range(16, 25), range(16, 21))):
        split = VARIANTS["PutOnPlateInScene25Main-v3"].split(obj_set)
        n = number % (len(objects) * len(tables) * 784 * 4)
        found = split.scenario(number)
        assert found.object == n // (len(tables) * 784 * 4) + objects[0]
        assert found.table == (n // (784 * 4)) % len(tables) + tables[0]
        assert (found.place, found.yaw) == ((n // 4) % 784, n % 4)
    n = number % (16 * 16 * 16 * 784 * 4)
    found = VARIANTS["PutOnPlateInScene25VisionWhole05-v1"].split("test").scenario(number)
    assert (found.object, found.texture) == (n // (16 * 16 * 784 * 4), (n // (16 * 784 * 4)) % 16 + 1)
    places = 1896
    n = number % (16 * 16 * 15 * 21 * places * 4)
    found = VARIANTS["PutOnPlateInScene25MultiPlate-v1"].split("test").scenario(number)
    plate, other = (n // (15 * 21 * places * 4)) % 16, (n // (21 * places * 4)) % 15
    assert (found.object, found.plate) == (n // (16 * 15 * 21 * places * 4), plate + 1)
    assert found.third == (plate + other + 1) % 16 + 1


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("PutOnPlateInScene25Main-v3", 16 * 16 * 784 * 4),
        ("PutOnPlateInScene25Main-v3.test", 9 * 5 * 784 * 4),
        ("PutOnPlateInScene25Main-v3.all", 25 * 21 * 784 * 4),
        ("PutOnPlateInScene25Single-v1", 784 * 4),
        ("PutOnPlateInScene25Carrot-v1", 9 * 16 * 784 * 4),
        ("PutOnPlateInScene25Plate-v1", 16 * 16 * 16 * 784 * 4),
        ("PutOnPlateInScene25Position-v1", 16 * 16 * 628 * 4),
        ("PutOnPlateInScene25Position-v1.all", 16 * 16 * (784 + 628) * 8),
        ("PutOnPlateInScene25EEPose-v1", 16 * 14375 * 16 * 784 * 4),
    ],
)
def test_number_of_episodes(name: str, count: int) -> None:
    assert SPLITS[name].num_episodes == count


HELD_OUT = {  # what the published protocol's episodes of a variant have that no training episode of the benchmark has
    "PutOnPlateInScene25VisionImage-v1": {"table"},
    "PutOnPlateInScene25VisionTexture03-v1": {"texture"},
    "PutOnPlateInScene25VisionTexture05-v1": {"texture"},
    "PutOnPlateInScene25VisionWhole03-v1": {"texture"},
    "PutOnPlateInScene25VisionWhole05-v1": {"texture"},
    "PutOnPlateInScene25Carrot-v1": {"object"},
    "PutOnPlateInScene25Plate-v1": {"plate"},
    "PutOnPlateInScene25Instruct-v1": {"template"},
    "PutOnPlateInScene25MultiCarrot-v1": {"object", "third"},
    "PutOnPlateInScene25MultiPlate-v1": {"plate", "third"},
    "PutOnPlateInScene25Position-v1": {"place", "yaw"},
    "PutOnPlateInScene25EEPose-v1": {"arm"},
    "PutOnPlateInScene25PositionChangeTo-v1": {"moves"},
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_variant_holds_out_what_it_is_named_for_and_nothing_else(name: str) -> None:
    variant = VARIANTS[name]
    seen, held = some_scenarios(variant.split("train")), some_scenarios(variant.split())
    for axis in AXES:
        train, test = ({getattr(s, axis) for s in scenarios} for scenarios in (seen, held))
        if axis in HELD_OUT[name] and not (axis == "third" and "Plate" in name):
            assert not train & test, f"{axis} is held out"
        elif axis != "third":  # which a training episode of the variant with two plates draws from all plates
            assert train == test or (axis == "place" and len(test) > 500 and max(test) < 2000), (
                f"{axis} is as in training"
            )


def test_the_published_split_is_the_default() -> None:
    defaults = {v.name: v.obj_set for v in VARIANTS.values()}
    assert {n for n, s in defaults.items() if s == "test"} == set(HELD_OUT)
    assert all(s == "train" for n, s in defaults.items() if n not in HELD_OUT)


@given(st.sampled_from(sorted(SPLITS)), st.data())
def test_a_trial_is_an_episode_of_its_task(name: str, data: st.DataObject) -> None:
    split = SPLITS[name]
    task = data.draw(st.integers(0, len(split.tasks) - 1))
    a, b = data.draw(st.lists(st.integers(0, split.num_trials - 1), min_size=2, max_size=2, unique=True))
    first, second = (split.episode_id(task, trial) for trial in (a, b))
    assert first != second
    assert 0 <= first < split.num_episodes
    scenario = split.scenario(first)
    assert (scenario.object, scenario.plate, scenario.template) == split.tasks[task]
    assert scenario.instruction == split.instructions[task]


def test_trials_visit_every_episode_once() -> None:
    split = SPLITS["PutOnPlateInScene25Single-v1"]
    assert sorted(split.episode_id(0, t) for t in range(split.num_trials)) == list(range(split.num_episodes))


@pytest.mark.parametrize("split", all_splits(), ids=lambda s: s.name)
def test_a_few_trials_are_a_fair_sample(split: Split) -> None:
    scenarios = [split.scenario(split.episode_id(0, trial)) for trial in range(50)]
    for axis in ("table", "yaw", "texture"):
        assert len({getattr(s, axis) for s in scenarios}) > 0.7 * len(split.axes[f"{axis}s"])
    assert len({s.place for s in scenarios}) > 40


@pytest.mark.parametrize("obj_set", OBJ_SETS)
@pytest.mark.parametrize("kind", ["Carrot", "Plate"])
def test_a_distractor_is_another_thing(kind: str, obj_set: str) -> None:
    split = VARIANTS[f"PutOnPlateInScene25Multi{kind}-v1"].split(obj_set)
    pairs = {(s.object if kind == "Carrot" else s.plate, s.third) for s in some_scenarios(split)}
    assert all(own != third for own, third in pairs)
    own = split.axes["objects" if kind == "Carrot" else "plates"]
    assert len(pairs) == len(own) * (len(split.thirds) - 1), "all combinations come up"


def test_words() -> None:
    words = SPLITS["PutOnPlateInScene25Instruct-v1"].instructions
    assert len(words) == len(set(words)) == 256
    assert SPLITS["PutOnPlateInScene25Main-v3"].instructions[:3] == (
        "put carrot on plate",
        "put kitchen shovel on plate",
        "put bread on plate",
    )
    assert words[0] == "Place the carrot on the plate"
    assert words[-1] == "the BBQ sauce should be placed on the plate."
    assert [spoken(f) for f in (OBJECTS[4], PLATES[4])] == ["7up can", "sheet metal"]


def test_every_split_is_a_suite() -> None:
    for split in all_splits():
        suite = SUITES.get(split.name)
        assert suite.instructions == split.instructions
        assert (suite.max_steps, suite.max_trials) == (80, split.num_trials)
        seed, options = suite.start(len(split.tasks) - 1, 3)
        assert (seed, options) == (3, {"episode_id": split.episode_id(len(split.tasks) - 1, 3)})
    assert len(SPLITS) == 17 * 3


def test_an_unknown_obj_set_is_refused() -> None:
    with pytest.raises(ValueError, match="obj_set is 'val'; allowed: train, test, all"):
        VARIANTS["PutOnPlateInScene25Main-v3"].split("val")
