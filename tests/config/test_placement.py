"""The grammar of cluster.component_placement: what it means, how it is written, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.config.checks import check_config
from siirl.config.load import config_to_yaml, load_config, read_config
from siirl.config.placement import ROLES, check_roles, parse_slots, place, read_placement, show_slots, spread
from siirl.config.problems import ConfigError, show
from siirl.config.schema import Config
from tests.config.folders import path_override, policy_folder

KEY = "cluster.component_placement"
TRAINING = {"env", "rollout", "actor"}


def cluster(slots: int, entries: dict[str, str] | None = None) -> Config:
    config = Config()
    config.cluster.num_cpu_slots_per_node, config.cluster.component_placement = slots, entries
    return config


def overridden(*overrides: str) -> Any:
    """What the command line makes of the placement."""
    reading = read_config("quickstart", overrides)
    assert reading.problems == []
    return reading.config.cluster.component_placement


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("all", range(16)),
        ("0", [0]),
        ("0-3", range(4)),
        ("3-3", [3]),
        ("0-3,8-11", [0, 1, 2, 3, 8, 9, 10, 11]),
        ("9, 2-3 ,0", [0, 2, 3, 9]),
        (" all ", range(16)),
        ("0-15", range(16)),
    ],
)
def test_texts_mean_slots(text: str, slots: Any) -> None:
    assert parse_slots(text, cluster(16)) == tuple(slots)


@pytest.mark.parametrize(
    ("text", "allowed", "fix"),
    [
        ("3-1", "from a lower slot to a higher one; 3-1 goes down", "write 1-3"),
        ("a", "'a' is none of these", "such as 0-3,8-11"),
        ("-1", "'-1' is none of these", "all"),
        ("0-", "'0-' is none of these", "all"),
        ("0,,1", "'' is none of these", "all"),
        ("0:3", "'0:3' is none of these", "all"),
        ("all,0", "'all' is none of these", "all"),
        ("²", "'²' is none of these", "all"),
        ("1.5", "'1.5' is none of these", "all"),
        ("", "at least one slot", "all"),
        (
            "16",
            "slots 0 to 15, the 16 that there are; 16 names slot 16",
            "trainer.nnodes=2 × trainer.n_gpus_per_node=8",
        ),
        ("0-99999999", "0-99999999 names slot 99999999", "name no slot above 15"),
        ("0-3,2-5", "each slot once; 2-3 is named again", "write 0-5"),
        ("0,0,0", "each slot once; 0 is named again", "write 0"),
    ],
)
def test_other_texts_are_refused_with_both_numbers(text: str, allowed: str, fix: str) -> None:
    config = Config()
    config.trainer.nnodes, config.trainer.n_gpus_per_node = 2, 8
    config.cluster.component_placement = {"env": text, "rollout,actor": "all"}
    placed, (line,) = read_placement(config)
    assert placed["env"] == ()
    assert line.startswith(f"{KEY}.env={text}: allowed: ")
    assert allowed in line.partition(" Fix: ")[0]
    assert fix in line.partition(" Fix: ")[2]


def test_cpu_slots_are_told_as_such() -> None:
    _, (line,) = read_placement(cluster(4, {"env,rollout,actor": "0-4"}))
    assert "slots 0 to 3, the 4 that there are; 0-4 names slot 4" in line
    assert "trainer.nnodes=1 × cluster.num_cpu_slots_per_node=4 (trainer.n_gpus_per_node=0)" in line


@given(st.sets(st.integers(0, 63), min_size=1))
def test_what_is_shown_is_read_as_it_was(slots: set[int]) -> None:
    assert parse_slots(show_slots(sorted(slots)), cluster(64)) == tuple(sorted(slots))


@settings(max_examples=25, deadline=None)
@given(st.permutations(ROLES), st.data())
def test_any_placement_survives_command_line_and_file(roles: list[str], data: st.DataObject) -> None:
    """Entries of one or more roles, each with any slots, written as `show` and as YAML write them."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(roles) - 1))))
    names = [",".join(roles[a:b]) for a, b in zip([0, *cuts], [*cuts, len(roles)], strict=True)]
    sets = [data.draw(st.sets(st.integers(0, 9), min_size=1)) for _ in names]
    entries = {name: show_slots(sorted(slots)) for name, slots in zip(names, sets, strict=True)}
    assert overridden(f"{KEY}={show(entries)}") == entries
    placed = place(cluster(10, entries), ROLES)
    assert list(placed) == list(ROLES)
    for name, slots in zip(names, sets, strict=True):
        assert all(placed[role] == tuple(sorted(slots)) for role in name.split(","))


def test_a_written_placement_loads_back(tmp_path: Path) -> None:
    entries = f"{KEY}={{env\\,rollout: [0,2-3], actor: 1}}"
    config = load_config("quickstart", [path_override(tmp_path), "cluster.num_cpu_slots_per_node=4", entries])
    assert config.cluster.component_placement == {"env,rollout": "0,2-3", "actor": "1"}
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    assert load_config("config", [], tmp_path) == config


def test_the_command_line_takes_the_whole_mapping_or_single_entries() -> None:
    whole = f"{KEY}={{env: 0-3, rollout: 4-7, actor: 8-15}}"
    assert overridden(whole) == {"env": "0-3", "rollout": "4-7", "actor": "8-15"}
    assert overridden(f"{KEY}.env=0-3", f"{KEY}.rollout=[0,1,4-7]", f"{KEY}.actor=all") == {
        "env": "0-3",
        "rollout": "0,1,4-7",
        "actor": "all",
    }
    assert overridden(whole, f"{KEY}.actor=0") == {"env": "0-3", "rollout": "4-7", "actor": "0"}
    assert overridden(f"{KEY}.actor=0", whole)["actor"] == "8-15"
    assert overridden(whole, f"{KEY}=null") is None


def test_an_entry_moves_one_role_out_of_a_shared_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("cluster: {component_placement: {'env,rollout,actor': all}}")
    config = read_config("mine", [f"{KEY}.rollout=4"], tmp_path).config
    assert config.cluster.component_placement == {"env,actor": "all", "rollout": "4"}


def test_a_list_without_brackets_and_an_entry_of_no_mapping_are_refused(tmp_path: Path) -> None:
    (line,) = read_config("quickstart", [f"{KEY}.env=0-3,8-11"]).problems
    assert line.endswith(f"Fix: write a list in brackets: {KEY}.env=[0-3,8-11].")
    (tmp_path / "mine.yaml").write_text("cluster: {component_placement: all}")
    entry, whole = read_config("mine", [f"{KEY}.env=0"], tmp_path).problems
    assert entry.startswith(f"{KEY}.env=0: allowed: an entry of a mapping, and {KEY}=all is none")
    assert whole.startswith(f"{KEY}=all: allowed: a mapping")


def test_without_a_placement_every_role_is_everywhere_and_embedding_follows_the_rollout() -> None:
    assert place(cluster(3), ROLES) == dict.fromkeys(ROLES, (0, 1, 2))
    entries = {"env": "0", "rollout": "1-2", "actor": "all"}
    assert place(cluster(3, entries), ROLES)["embedding"] == (1, 2)
    assert place(cluster(3, entries | {"embedding": "0"}), ROLES)["embedding"] == (0,)
    assert place(cluster(3, entries), {"env", "rollout"}) == {"env": (0,), "rollout": (1, 2)}


def test_every_bad_entry_is_named_at_once(tmp_path: Path) -> None:
    config = cluster(4, {"env": "4-2", "rolout": "0-3", "env,actor": "0-4", "": "0"})
    config.actor_rollout_ref.model.path = str(policy_folder(tmp_path))
    backwards, unknown, outside, twice, nameless = check_config(config)
    assert backwards.startswith(f"{KEY}.env=4-2: ")
    assert unknown.startswith(f"{KEY}.rolout=0-3: ")
    assert "the roles env, rollout, embedding, actor; 'rolout' is none of them" in unknown
    assert unknown.endswith("Fix: Did you mean 'rollout'?")
    assert outside.startswith(f"{KEY}.env,actor=0-4: ")
    assert "names slot 4" in outside
    assert "each role once; env is placed twice" in twice
    assert "'' is none of them" in nameless
    with pytest.raises(ValueError, match="cannot be placed") as refused:
        place(config, ROLES)
    assert "rolout" in str(refused.value)


@pytest.mark.parametrize(
    ("entries", "missing"),
    [
        ({"env": "0"}, "rollout and actor have none"),
        ({"env,rollout": "0"}, "actor has none"),
        ({}, "env and rollout and"),
    ],
)
def test_missing_roles_are_named(entries: dict[str, str], missing: str) -> None:
    (line,) = check_roles(cluster(1, entries), {*TRAINING, "embedding"})
    assert line.startswith(f"{KEY}={show(entries)}: allowed: a place for each role of the workflow; ")
    assert missing in line
    assert f"{KEY}.actor=<slots>" in line


def test_a_role_that_the_workflow_has_not_is_refused_except_for_validation() -> None:
    config = cluster(2, {"env,rollout": "0", "embedding": "1", "actor": "0"})
    (line,) = check_roles(config, TRAINING)
    assert line.startswith(f"{KEY}.embedding=1: allowed: roles that the workflow has")
    assert list(check_roles(config, TRAINING | {"embedding"})) == []
    config.trainer.val_only = True
    assert list(check_roles(config, {"env", "rollout"})) == []
    assert list(check_roles(cluster(2), TRAINING)) == []


@given(st.integers(1, 60), st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True))
def test_things_are_spread_evenly_and_in_order(count: int, slots: list[int]) -> None:
    places = spread(count, slots)
    numbers = [places.count(slot) for slot in slots]
    assert sum(numbers) == len(places) == count
    assert max(numbers) - min(numbers) <= 1
    assert [slots.index(place) for place in places] == sorted(slots.index(place) for place in places)


def test_the_slots_of_a_refused_cluster_are_not_judged(tmp_path: Path) -> None:
    """The default that stands in for the number of machines has too few slots."""
    entries = f"{KEY}={{env: 0, rollout: 0, actor: 5-4}}"
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [path_override(tmp_path), "trainer.nnodes=many", entries, f"{KEY}.env=7"])
    nodes, actor = caught.value.problems
    assert nodes.startswith("trainer.nnodes=many: ")
    assert actor.startswith(f"{KEY}.actor=5-4: ")
