"""An environment for training and another for validation: what each has, and what is refused."""

import pytest

from siirl.config.checks import check_config
from siirl.config.environments import (
    VALIDATION,
    environments,
    group_share,
    seen_by,
    told_of,
    validates_in,
    validation_env,
)
from siirl.config.keys import set_value
from siirl.config.load import load_config
from siirl.config.problems import ConfigError
from siirl.config.schema import Config

EMBODIED = "actor_rollout_ref.embodied"


def config(**values: object) -> Config:
    made = Config(dry_run=True)
    for name, value in values.items():
        set_value(made, f"{EMBODIED}.{name.replace('__', '.')}", value)
    return made


def both(**values: object) -> Config:
    return config(env__env_type="opensora_wm", val_env__env_type="libero", **values)


def test_one_environment_does_both_unless_another_is_named() -> None:
    assert environments(config()) == {"env": Config().actor_rollout_ref.embodied.env}
    assert validates_in(config()) == "env"


def test_what_is_not_named_is_as_in_training() -> None:
    made = both(env__num_envs=8, env__image_size=64, val_env__num_envs=3, val_env__max_steps=100)
    env = validation_env(made.actor_rollout_ref.embodied)
    assert (env.env_type, env.num_envs, env.max_steps, env.image_size) == ("libero", 3, 100, 64)
    assert [(name, env.env_type) for name, env in environments(made).items()] == [
        ("env", "opensora_wm"),
        ("val_env", "libero"),
    ]


def test_a_run_that_only_validates_has_no_use_for_the_other() -> None:
    made = both()
    made.trainer.val_only = True
    assert [*environments(made)] == ["val_env"]


def test_a_problem_names_the_key_that_was_given() -> None:
    made = both(val_env__num_envs=3)
    line = f"{EMBODIED}.env.num_envs=3: allowed: 4. Fix: {EMBODIED}.env.image_size=4"
    told = f"{EMBODIED}.val_env.num_envs=3: allowed: 4. Fix: {EMBODIED}.env.image_size=4"
    assert told_of(made, VALIDATION, line) == told
    assert told_of(made, "env", line) == line
    assert seen_by(made, VALIDATION).trainer.val_only


@pytest.mark.parametrize(
    ("values", "start", "part"),
    [
        ({"val_env__num_envs": 3}, f"{EMBODIED}.val_env.num_envs=3", "val_env.env_type=null: validation runs in"),
        (
            {"val_env__env_type": "libero", "val_env__num_trials_per_task": 5, "val_env__num_holdout_trials": 6},
            f"{EMBODIED}.val_env.num_holdout_trials=6",
            "at most",
        ),
        (
            {"val_env__env_type": "libero", "val_env__max_steps": 4},
            f"{EMBODIED}.action_chunks_len=8",
            "at most the episode's 4 steps",
        ),
        (
            {"env__world_model__chunk": 4, "val_env__env_type": "libero", "val_env__sim_backend": "gpu"},
            f"{EMBODIED}.val_env.sim_backend=gpu",
            "cpu with trainer.n_gpus_per_node=0",
        ),
    ],
)
def test_wrong(values: dict[str, object], start: str, part: str) -> None:
    made = config(**values)
    made.trainer.n_gpus_per_node = 0
    (line,) = check_config(made)
    assert line.startswith(start)
    assert part in line


OTHER = {"val_env__env_type": "libero", "val_env__num_trials_per_task": 5}


@pytest.mark.parametrize(
    ("values", "start", "part"),
    [
        ({}, f"{EMBODIED}.real_fraction=0.5", "0 with actor_rollout_ref.embodied.val_env.env_type=null"),
        ({**OTHER, "val_env__num_holdout_trials": 5}, f"{EMBODIED}.real_fraction=0.5", "all of its trials validate"),
    ],
)
def test_real_groups_need_another_environment_with_trials_to_train(
    values: dict[str, object], start: str, part: str
) -> None:
    made = config(env__env_type="opensora_wm", **values)
    made.actor_rollout_ref.embodied.real_fraction = 0.5
    (line,) = check_config(made)
    assert line.startswith(start)
    assert part in line
    made.trainer.val_only = True
    assert check_config(made) == []


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_what_is_too_many_is_not_cancelled_in_one_environment_alone(share: float) -> None:
    made = both(val_env__num_trials_per_task=5, val_env__num_holdout_trials=1)
    made.actor_rollout_ref.embodied.real_fraction = share
    made.algorithm.embodied_sampling.oversample_factor = 1.5
    lines = check_config(made)
    assert [line.partition("=")[0] for line in lines] == ["algorithm.embodied_sampling.oversample_factor"] * (share < 1)
    assert group_share(made, "env") == 1 - share
    assert group_share(made, VALIDATION) == share


def test_a_share_is_one() -> None:
    with pytest.raises(ConfigError, match=r"real_fraction=1\.5: "):
        load_config("opensora_libero_spatial_grpo_openvlaoft", ["dry_run=true", f"{EMBODIED}.real_fraction=1.5"])


def test_all_trials_may_validate_while_others_train() -> None:
    made = both(val_env__num_trials_per_task=5, val_env__num_holdout_trials=5)
    assert check_config(made) == []
