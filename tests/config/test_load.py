"""Composition, overrides, and reporting of everything at once."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.config.folders import shipped_folder
from siirl.config.keys import KEYS, get_value, set_value
from siirl.config.load import (
    ConfigError,
    config_to_dict,
    config_to_yaml,
    load_config,
    parse_command_line,
    read_config,
)
from siirl.config.problems import show
from siirl.config.schema import Config
from tests.config.folders import path_override


def write(folder: Path, name: str, text: str) -> None:
    file = folder / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))


def problems(*overrides: str, name: str = "embodied_srpo_trainer", folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(name, [*overrides, "dry_run=true"] if folder is None else overrides, folder)
    return caught.value.problems


def test_values_of_the_command_line_have_the_right_types(tmp_path: Path) -> None:
    config = load_config(
        "embodied_srpo_trainer",
        [
            path_override(tmp_path),
            "trainer.logger=['console']",
            "trainer.total_training_steps=null",
            "actor_rollout_ref.actor.optim.lr=5e-6",
            "actor_rollout_ref.embodied.center_crop=False",
            "algorithm.embodied_sampling.oversample_factor=2",
            "+trainer.seed=3",
            "actor_rollout_ref.embodied.env.task_ids=[0, 2]",
            "trainer.project_name=a",
            "trainer.project_name=b",
            "data.val_files=${data.train_files}.val",
        ],
    )
    assert config.trainer.logger == ["console"]
    assert config.trainer.total_training_steps is None
    assert config.actor_rollout_ref.actor.optim.lr == 5e-6
    assert config.actor_rollout_ref.embodied.center_crop is False
    assert config.algorithm.embodied_sampling.oversample_factor == 2.0
    assert config.trainer.seed == 3
    assert config.actor_rollout_ref.embodied.env.task_ids == [0, 2]
    assert config.trainer.project_name == "b", "the last one counts"
    assert config.data.val_files == "data/libero_spatial/train.parquet.val"


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    found = problems(
        path_override(tmp_path),
        "embodied.img_size=384",
        "data.train_batch_size=0",
        "trainer.backend=rai",
        "trainer.seed=1,2",
        "trainer.logger=console,tensorboard",
        "~data.shuffle",
        "trainer=3",
        "data.train_files=/p/(1)",
        "data.val_files=${data.no_such}",
        "algorithm.gamma=0.9",
    )
    expected = {
        "embodied.img_size=384": "actor_rollout_ref.embodied.embedding_img_size?",
        "data.train_batch_size=0": "data.train_batch_size=64 (the default)",
        "trainer.backend=rai": "Did you mean 'ray'?",
        "trainer.seed=1,2": "give trainer.seed one value",
        "trainer.logger=console,tensorboard": "trainer.logger=[console,tensorboard]",
        "~data.shuffle": "cannot be deleted",
        "trainer=3": "trainer.<key>",
        "data.train_files=/p/(1)": "'data.train_files=\"/p/(1)\"'",
        "data.val_files=${data.no_such}": "'data.no_such' not found",
        "algorithm.gamma=0.9": "algorithm.gamma=1.0",
    }
    assert len(found) == len(expected)
    for start, part in expected.items():
        (line,) = [line for line in found if line.startswith(f"{start}: ")]
        assert part in line
        assert " allowed: " in line
        assert " Fix: " in line


def test_a_refused_value_causes_no_second_problem(tmp_path: Path) -> None:
    """The default that stands in for it would contradict another key."""
    found = problems(
        path_override(tmp_path),
        "actor_rollout_ref.actor.ppo_mini_batch_size=many",
        "data.train_batch_size=2",
    )
    assert len(found) == 1


def test_the_message_lists_the_problems() -> None:
    assert str(ConfigError(["a", "b"])) == "the config has 2 problems:\n  - a\n  - b"
    assert str(ConfigError(["a"])).startswith("the config has 1 problem:")


def test_own_folder_extends_the_shipped_files(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    write(
        folder,
        "mine",
        """
        defaults: [embodied_grpo_trainer, size: small, _self_]
        trainer: {seed: 4, logger: [console]}
        actor_rollout_ref: {actor: {optim: {lr: "1e-5"}}}
        """,
    )
    write(folder, "size/small", "# @package _global_\ndata: {train_batch_size: 5}")
    write(folder, "size/large", "# @package _global_\ndata: {train_batch_size: 50}")
    config = load_config("mine", [path_override(tmp_path)], folder)
    assert (config.trainer.seed, config.trainer.logger) == (4, ["console"])
    assert config.actor_rollout_ref.actor.optim.lr == 1e-5
    assert config.algorithm.reward == "sparse"
    assert config.data.train_batch_size == 5
    config = load_config("mine.yaml", [path_override(tmp_path), "size=large"], folder)
    assert config.data.train_batch_size == 50


def test_a_shipped_file_can_select_from_an_own_folder(tmp_path: Path) -> None:
    write(tmp_path, "env/other", "# @package _global_\nactor_rollout_ref: {embodied: {env: {num_envs: 7}}}")
    config = load_config("quickstart", [path_override(tmp_path), "env=other"], tmp_path)
    assert config.actor_rollout_ref.embodied.env.num_envs == 3, "quickstart itself comes after its defaults"
    config = load_config("embodied_srpo_trainer", [path_override(tmp_path), "env=other"], tmp_path)
    assert config.actor_rollout_ref.embodied.env.num_envs == 7


def test_wrong_keys_and_values_of_a_file_are_reported_like_those_of_the_command_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mine",
        """
        data: {train_batch_sizes: 4, shuffle: 1, val_batch_size: {x: 1}}
        actor_rollout_ref: {embodied: {img_size: 3, empty: {}}}
        critic: null
        trainer:
          total_epochs: ???
        """,
    )
    found = problems("dry_run=true", name="mine", folder=tmp_path)
    starts = [
        "data.train_batch_sizes=4",
        "data.shuffle=1",
        "data.val_batch_size={x: 1}",
        "actor_rollout_ref.embodied.img_size=3",
        "actor_rollout_ref.embodied.empty={}",
        "critic=null",
        "trainer.total_epochs=???",
    ]
    assert sorted(line.partition(": allowed")[0] for line in found) == sorted(starts)


@pytest.mark.parametrize("text", ["data: [", "data: 1\ndata: 2", "defaults: [no_such_file]", "data: ${", "a: {b: c"])
def test_a_broken_file_is_named_and_nothing_else_is_blamed(tmp_path: Path, text: str) -> None:
    write(tmp_path, "broken", text)
    (line,) = problems(name="broken", folder=tmp_path)
    assert line.startswith("--config-name=broken: ")
    assert str(tmp_path) in line


def test_an_unknown_file_lists_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "mine", "data: {}")
    (line,) = problems(name="quickstar", folder=tmp_path)
    assert "Did you mean 'quickstart'?" in line
    assert "mine" in line


def test_unknown_choices_of_groups_are_refused(tmp_path: Path) -> None:
    assert problems("model=openvlaa", "env=none") == [
        "model=openvlaa: allowed: openvla, openvla_oft, start_policy, starvla. Fix: Did you mean 'openvla'?",
        "env=none: allowed: libero, maniskill, opensora_libero_spatial. Fix: name one of these.",
    ]
    shown = "model=null: allowed: openvla, openvla_oft, start_policy, starvla. Fix: name one of these."
    assert problems("model=null") == [shown]
    write(tmp_path, "model/mine", "# @package _global_\ndata: {train_batch_size: 3}")
    (line,) = problems("dry_run=true", "model=mina", name="quickstart", folder=tmp_path)
    assert line == "model=mina: allowed: mine, openvla, openvla_oft, start_policy, starvla. Fix: Did you mean 'mine'?"


def test_a_misspelt_group_is_told_as_one() -> None:
    groups = "algorithm, cluster, cpu_small, env, model"
    allowed = f"a key, or one of the config groups {groups}"
    assert problems("modle=openvla") == [f"modle=openvla: allowed: {allowed}. Fix: Did you mean 'model'?"]
    (line,) = problems("trainr=4")
    assert "there is none of this name" in line


def test_assets_are_found_beside_the_configs() -> None:
    config = read_config("quickstart").config
    assert config.actor_rollout_ref.model.path == str(shipped_folder("assets") / "start_policy")
    assert shipped_folder("configs").joinpath("quickstart.yaml").is_file()


def test_a_written_config_loads_back(tmp_path: Path) -> None:
    config = load_config("quickstart", [path_override(tmp_path), "trainer.experiment_name='7: {é}'"])
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    assert load_config("config", [], tmp_path) == config


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_value_survives_the_command_line(data: st.DataObject) -> None:
    """A value written as `show` writes it, quoted if it is text, is read as it was."""
    name = data.draw(st.sampled_from(sorted(name for name, key in KEYS.items() if not key.is_mapping)))
    key = KEYS[name]
    one = {
        bool: st.booleans(),
        int: st.integers(-5, 10**6),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text("abcXYZ 019_-/.,:=()ü", max_size=12),
    }[key.item]
    value = data.draw(st.lists(one, max_size=3) if key.is_list else one)
    written = show([f'"{v}"' for v in value]) if key.item is str and key.is_list else show(value)
    reading = read_config("quickstart", [f'{name}="{value}"' if key.base is str else f"{name}={written}"])
    if name in reading.bad_keys:
        assert key.limits, "only limits make a value of the right type wrong"
    else:
        assert not reading.problems
        assert get_value(reading.config, name) == value


def test_plain_dictionary(tmp_path: Path) -> None:
    config = Config()
    set_value(config, "actor_rollout_ref.rollout.val_kwargs.n", 3)
    set_value(config, "dry_run", True)
    assert config_to_dict(config)["actor_rollout_ref"]["rollout"]["val_kwargs"]["n"] == 3
    assert config_to_dict(config)["dry_run"] is True


def test_command_line(tmp_path: Path) -> None:
    config = parse_command_line(["--config-name=quickstart", path_override(tmp_path), "trainer.save_freq=-1"])
    assert config.trainer.save_freq == -1
    assert config.trainer.default_local_dir == "runs/quickstart"
    write(tmp_path, "mine", "defaults: [quickstart, _self_]\ntrainer: {seed: 9}")
    argv = [path_override(tmp_path), "--config-dir", str(tmp_path), "trainer.test_freq=7", "--config-name", "mine"]
    config = parse_command_line(argv)
    assert (config.trainer.seed, config.trainer.test_freq) == (9, 7)


def test_further_checks_are_reported_with_the_others(tmp_path: Path) -> None:
    def complain(config: Config) -> list[str]:
        return ["data.shuffle=true: allowed: false. Fix: x.", "trainer.seed=0: allowed: 1. Fix: y."]

    with pytest.raises(ConfigError) as caught:
        parse_command_line([path_override(tmp_path), "trainer.seed=-1", "algorithm.lam=0.5"], complain)
    starts = [line.partition(":")[0] for line in caught.value.problems]
    assert starts == ["trainer.seed=-1", "algorithm.lam=0.5", "data.shuffle=true"]


def test_help_tells_where_all_keys_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command_line(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "docs/config.md" in text
    named = [word for line in text.splitlines() for word in line.split() if word.rstrip(",") in KEYS]
    assert len(named) > 8


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command_line(["--no-such-option"])
    assert caught.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err
