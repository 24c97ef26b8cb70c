"""Which prompts train and validate, and the files that keep them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.config.schema import Config
from siirl.data.manifest import Prompt, build_prompts, ensure_manifests
from tests.data.prompts import tasks


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config()
    config.data.train_files = str(tmp_path / "sub" / "train.parquet")
    config.data.val_files = str(tmp_path / "other" / "validate.parquet")
    config.actor_rollout_ref.embodied.env.num_trials_per_task = 10
    config.actor_rollout_ref.embodied.env.num_holdout_trials = 3
    return config


def ensure(config: Config, number: int = 2, max_steps: int = 60) -> tuple[list[Prompt], list[Prompt]]:
    """The manifests of a simulator with so many tasks."""
    prompts = build_prompts(config, tasks(number), max_steps)
    ensure_manifests(config, *prompts)
    return prompts


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 4), st.integers(1, 12), st.data())
def test_the_last_trials_are_held_out(number: int, trials: int, data: st.DataObject) -> None:
    held_out = data.draw(st.integers(0, trials - 1))
    config = Config()
    config.actor_rollout_ref.embodied.env.num_trials_per_task = trials
    config.actor_rollout_ref.embodied.env.num_holdout_trials = held_out
    train, validate = build_prompts(config, tasks(number, trials=12), max_steps=77)
    assert {p.split for p in train} == {"train"}
    assert {p.split for p in validate} == {"validate"}
    assert {p.max_steps for p in train + validate} == {77}
    pairs = [[(p.task_id, p.trial_id) for p in part] for part in (train, validate)]
    everything = [(task, trial) for task in range(number) for trial in range(trials)]
    if held_out:
        assert sorted(pairs[0] + pairs[1]) == everything
        assert len(pairs[1]) == number * held_out
        assert max(trial for _, trial in pairs[0]) < min(trial for _, trial in pairs[1])
    else:
        assert pairs == [everything, everything]


def test_the_config_names_the_episode_length_or_the_suite_does(config: Config) -> None:
    assert build_prompts(config, tasks(), max_steps=5)[0][0].max_steps == 5
    config.actor_rollout_ref.embodied.env.max_steps = 8
    assert build_prompts(config, tasks(), max_steps=5)[0][0].max_steps == 8


def test_more_trials_than_there_are(config: Config) -> None:
    with pytest.raises(ValueError, match=r"num_trials_per_task=10, but task 0 of suite has 9 trials"):
        build_prompts(config, tasks(trials=9), max_steps=5)


def test_a_run_that_only_validates_may_hold_out_everything_and_leaves_the_training_manifest_alone(
    config: Config,
) -> None:
    config.trainer.val_only, config.actor_rollout_ref.embodied.env.num_holdout_trials = True, 10
    train, validate = ensure(config)
    assert (len(train), len(validate)) == (0, 20)
    assert Path(config.data.val_files).is_file()
    assert not Path(config.data.train_files).exists()
    Path(config.data.train_files).parent.mkdir()
    Path(config.data.train_files).write_text("of another run")
    assert ensure(config) == (train, validate)


def test_files_are_written_with_every_column(config: Config) -> None:
    train, validate = ensure(config)
    table = pq.read_table(config.data.train_files)
    assert table.column_names == ["suite", "task_id", "trial_id", "prompt_id", "instruction", "split", "max_steps"]
    assert table.to_pylist()[8] == {
        "suite": "suite",
        "task_id": 1,
        "trial_id": 1,
        "prompt_id": "suite/1/1",
        "instruction": "do thing 1",
        "split": "train",
        "max_steps": 60,
    }
    assert table.num_rows == len(train) == 14
    assert pq.read_table(config.data.val_files)["trial_id"].to_pylist() == [7, 8, 9, 7, 8, 9]
    assert len(validate) == 6
    assert [f.name for f in Path(config.data.train_files).parent.iterdir()] == ["train.parquet"], (
        "nothing temporary stays"
    )


def test_files_that_match_are_left_alone(config: Config) -> None:
    first = ensure(config)
    times = [Path(f).stat().st_mtime_ns for f in (config.data.train_files, config.data.val_files)]
    assert ensure(config) == first
    assert [Path(f).stat().st_mtime_ns for f in (config.data.train_files, config.data.val_files)] == times


def test_a_missing_file_is_written_beside_one_that_matches(config: Config) -> None:
    ensure(config)
    Path(config.data.val_files).unlink()
    ensure(config)
    assert Path(config.data.val_files).is_file()


def test_a_mismatch_shows_both_and_writes_nothing(config: Config) -> None:
    ensure(config)
    Path(config.data.val_files).unlink()
    with pytest.raises(ValueError, match=r"data\.train_files=.* does not match the config") as caught:
        ensure(config, number=3, max_steps=80)
    text = str(caught.value)
    assert "rows: 14 in the file, 21 from the config" in text
    assert "task_id: 0, 1 in the file, 0, 1, 2 from the config" in text
    assert "max_steps: 60 in the file, 80 from the config" in text
    assert "  suite:" not in text, "columns that agree are not shown"
    assert "first difference, row 0: {" in text
    assert f"Delete {config.data.train_files}" in text
    assert not Path(config.data.val_files).exists()


def test_a_different_hold_out_is_a_mismatch(config: Config) -> None:
    ensure(config)
    config.actor_rollout_ref.embodied.env.num_holdout_trials = 2
    with pytest.raises(ValueError, match=r"trial_id: 0 to 6 \(7 different\) in the file, 0 to 7 \(8 different\) from"):
        ensure(config)


def test_rows_in_another_order_are_a_mismatch(config: Config) -> None:
    ensure(config)
    table = pq.read_table(config.data.train_files)
    pq.write_table(table.take([1, 0, *range(2, table.num_rows)]), config.data.train_files)
    with pytest.raises(ValueError, match=r"rows: 14 in the file, 14 from the config\n  first difference, row 0"):
        ensure(config)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_a_corrupt_file_is_named(config: Config, content: bytes) -> None:
    file = Path(config.data.val_files)
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.val_files=.*validate\.parquet cannot be read as a Parquet") as caught:
        ensure(config)
    assert "Delete" in str(caught.value)


def test_a_folder_or_another_table_in_its_place_is_named(config: Config) -> None:
    file = Path(config.data.train_files)
    file.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"data\.train_files="):
        ensure(config)
    file.rmdir()
    pq.write_table(pa.table({"prompt": ["x"]}), file)
    with pytest.raises(ValueError, match=r"has other columns than a manifest: the file has prompt \(string\)"):
        ensure(config)
