"""The table of suites, against ManiSkill's own registry and in its simulator."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill import ManiSkillEnv
from siirl.envs.maniskill.suites import SUITES

from .conftest import episode

NAMES = (
    "LiftPegUpright-v1",
    "PegInsertionSide-v1",
    "PickCube-v1",
    "PlaceSphere-v1",
    "PokeCube-v1",
    "PullCube-v1",
    "PushCube-v1",
    "StackCube-v1",
)
WITH_WRIST = ("PegInsertionSide-v1", "StackCube-v1")


def config(name: str, **settings: object) -> EnvConfig:
    return EnvConfig(env_type="maniskill", env_name=name, image_size=32, **settings)  # type: ignore[arg-type]


def test_the_table() -> None:
    assert set(NAMES) <= set(SUITES.names())
    for name in NAMES:
        suite = SUITES.get(name)
        assert suite.name == name
        assert suite.instructions[0] == suite.instructions[0].lower()
        assert ManiSkillEnv.has_wrist_camera(config(name)) == (name in WITH_WRIST)


@pytest.mark.usefixtures("drawing")
def test_lengths_are_maniskills() -> None:
    import mani_skill.envs  # noqa: F401
    from mani_skill.utils.registration import REGISTERED_ENVS

    for name in NAMES:
        assert ManiSkillEnv.default_max_steps(config(name)) == REGISTERED_ENVS[name].max_episode_steps
        assert not REGISTERED_ENVS[name].asset_download_ids


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("name", NAMES)
def test_every_task_runs(name: str) -> None:
    """A chunk in each, with the wrist's camera where there is one, and the same again."""
    wrist = name in WITH_WRIST
    actions = np.full((1, 3, 7), 0.2, np.float32)
    with closing(ManiSkillEnv(config(name), wrist)) as env:
        first = env.reset([0], [episode(name)])
        result = env.step([0], actions)
        other = env.reset([0], [episode(name, trial_id=6)])
        again = env.reset([0], [episode(name)])
        repeated = env.step([0], actions)
    assert first.main_images.shape == (1, 32, 32, 3)
    assert len(np.unique(first.main_images)) > 20
    assert (first.main_images != other.main_images).any()
    if wrist:
        assert first.wrist_images is not None
        assert first.wrist_images.shape == (1, 32, 32, 3)
        assert (first.wrist_images != first.main_images).any()
    assert ((result.rewards >= 0) & (result.rewards <= 1)).all()
    for a, b in ((first, again), (result.obs, repeated.obs)):
        np.testing.assert_array_equal(a.main_images, b.main_images)
        np.testing.assert_array_equal(a.states, b.states)
    np.testing.assert_array_equal(result.rewards, repeated.rewards)


def test_a_suite_has_as_many_trials_as_are_asked_for() -> None:
    (task,) = ManiSkillEnv.tasks(config("PushCube-v1", num_trials_per_task=12345))
    assert task.num_trials == 12345


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (config("PickCub-v1"), "unknown ManiSkill task 'PickCub-v1'; allowed: .*Did you mean 'PickCube-v1'?"),
        (config("PickCube-v1", task_ids=[0, 1]), "PickCube-v1 has no task 1; allowed: 0 to 0"),
        (config("PegInsertionSide-v1", sim_backend="gpu"), "its shapes differ between trials.*use env.sim_backend=cpu"),
        (config("PickCube-v1", asset_dir="/nowhere"), "env.asset_dir=/nowhere is no folder"),
    ],
)
def test_what_there_is_not_is_named(given: EnvConfig, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        ManiSkillEnv.tasks(given)


def test_other_suites_are_told_apart() -> None:
    assert ManiSkillEnv.is_other_suite(config("PickCube-v1"), "PushCube-v1")
    assert not ManiSkillEnv.is_other_suite(config("PickCube-v1"), "PickCube-v1")
    assert not ManiSkillEnv.is_other_suite(config("PickCube-v1"), "bridge_orig")


def test_missing_assets_stop_a_run_and_not_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(config: EnvConfig) -> None:
        raise ValueError("no carrot.glb")

    suite = replace(SUITES.get("PickCube-v1"), check=check)
    monkeypatch.setitem(SUITES._components, "PickCube-v1", suite)
    assert ManiSkillEnv.tasks(config("PickCube-v1"))
    with pytest.raises(ValueError, match=r"no carrot\.glb"):
        ManiSkillEnv.check_machine(config("PickCube-v1"))
