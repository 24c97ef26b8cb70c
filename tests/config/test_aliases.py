"""Other spellings of keys: read wherever the key is, and never silently in conflict with it."""

from pathlib import Path

from siirl.config.aliases import ALIASES
from siirl.config.keys import KEYS, get_value
from siirl.config.load import Reading, read_config


def read(folder: Path, text: str, *overrides: str) -> Reading:
    (folder / "mine.yaml").write_text(text)
    return read_config("mine", overrides, folder)


def test_every_other_name_is_one_and_means_a_key() -> None:
    assert set(ALIASES.values()) <= set(KEYS)
    assert not set(ALIASES) & set(KEYS)


def test_other_names_are_read_from_files_and_from_the_command_line(tmp_path: Path) -> None:
    for alias, name in ALIASES.items():
        assert get_value(read_config("quickstart", [f"{alias}=7"]).config, name) == 7
        section, _, leaf = alias.rpartition(".")
        assert get_value(read(tmp_path, f"{section}: {{{leaf}: 7}}").config, name) == 7


def test_two_names_may_agree_and_are_both_told_when_they_do_not(tmp_path: Path) -> None:
    both = "cluster: {num_nodes: 2}\ntrainer: {nnodes: %d}"
    assert read(tmp_path, both % 2).problems == []
    (line,) = read(tmp_path, both % 3).problems
    assert line.startswith("trainer.nnodes=3: allowed: 2, since cluster.num_nodes=2 is the same setting")
    assert "keep one of the two, trainer.nnodes or cluster.num_nodes" in line
    (line,) = read_config("quickstart", ["trainer.nnodes=1", "cluster.num_nodes=2", "trainer.nnodes=2"]).problems
    assert line.startswith("cluster.num_nodes=2: allowed: 1")


def test_the_command_line_wins_over_the_files_under_either_name(tmp_path: Path) -> None:
    reading = read(tmp_path, "trainer: {nnodes: 3}", "cluster.num_nodes=4")
    assert (reading.problems, reading.config.trainer.nnodes) == ([], 4)
    reading = read(tmp_path, "cluster: {num_nodes: 3}", "trainer.nnodes=4")
    assert (reading.problems, reading.config.trainer.nnodes) == ([], 4)


def test_a_value_may_refer_to_a_setting_by_either_name(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "cluster: {num_nodes: 3}\ntrainer: {seed: '${cluster.num_nodes}'}\ndata: {val_batch_size: '${trainer.nnodes}'}",
    )
    assert (reading.config.trainer.seed, reading.config.data.val_batch_size) == (3, 3)
