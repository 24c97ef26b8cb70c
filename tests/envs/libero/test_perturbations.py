"""LIBERO-PRO's suites: what they change is there, in the files, in the instruction and in the simulator."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.libero import LiberoEnv
from siirl.envs.libero.perturbations import BASES, PERTURBATIONS, missing_files, read_instruction
from siirl.envs.libero.suites import load_init_states, suite_tasks
from tests.envs.libero.conftest import episode

INSTALLED = [suffix for suffix in PERTURBATIONS if suffix != "env"]


@pytest.mark.parametrize("suffix", INSTALLED)
@pytest.mark.parametrize("base", BASES)
def test_each_suite_has_its_base_s_tasks(base: str, suffix: str) -> None:
    usual, perturbed = suite_tasks(base), suite_tasks(f"{base}_{suffix}")
    assert [task.bddl_file.name for task in perturbed] == [task.bddl_file.name for task in usual]
    same = sum(a.instruction == b.instruction for a, b in zip(usual, perturbed, strict=True))
    assert same == (0 if PERTURBATIONS[suffix].own_instruction else 10)
    assert LiberoEnv.base_suite(EnvConfig(env_name=f"{base}_{suffix}")) == base
    assert LiberoEnv.default_max_steps(EnvConfig(env_name=f"{base}_{suffix}")) == LiberoEnv.default_max_steps(
        EnvConfig(env_name=base)
    )


def test_instructions_are_those_of_the_task_files() -> None:
    """File names, from which the package takes them, are the base's."""
    assert suite_tasks("libero_spatial_lan")[0].instruction == (
        "lift the black bowl between the plate and ramekin and set it on the plate"
    )
    assert suite_tasks("libero_object_task")[0].instruction == "Pick the cream cheese and place it in the basket"
    assert suite_tasks("libero_long_lan") == suite_tasks("libero_10_lan")


def test_an_instruction_may_have_several_lines(tmp_path: Path) -> None:
    file = tmp_path / "task.bddl"
    file.write_text("(define (problem x)\n  (:language put  the\n  bowl away)\n  (:regions))")
    assert read_instruction(file) == "put the bowl away"


@pytest.mark.parametrize("base", BASES)
def test_environment_suites_have_no_files_and_say_so(base: str) -> None:
    with pytest.raises(
        ValueError, match=rf"'{base}_env' by name alone: it lacks 20 of 20 files.*{base}_lan"
    ) as refused:
        LiberoEnv.tasks(EnvConfig(env_name=f"{base}_env"))
    assert f"{base}_env," not in str(refused.value)


def test_a_misspelt_suite_is_corrected() -> None:
    with pytest.raises(ValueError, match=r"<suite>_<object\|swap\|lan\|task\|env>.*Did you mean 'libero_goal_swap'\?"):
        LiberoEnv.tasks(EnvConfig(env_name="libero_goal_swp"))


def test_missing_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert missing_files([tmp_path / "there"]) == ""
    assert (
        missing_files([tmp_path / "there", tmp_path / "a", tmp_path / "b"])
        == f"2 of 3 files, the first {tmp_path / 'a'}"
    )


@pytest.fixture(scope="module")
def env(config: EnvConfig) -> Iterator[LiberoEnv]:
    env = LiberoEnv(config)
    yield env
    env.close()


def places(env: LiberoEnv) -> dict[str, np.ndarray]:
    """Where the objects are, m [3] each."""
    assert env._simulator is not None
    domain = env._simulator.domain
    return {name: domain.sim.data.body_xpos[domain.obj_body_id[name]].copy() for name in domain.objects_dict}


def test_one_process_runs_a_suite_and_its_perturbations(env: LiberoEnv) -> None:
    """The same trial in the base, with objects that changed places, and with another goal."""
    seen = {}
    for suffix in ("", "_swap", "_task"):
        suite = f"libero_spatial{suffix}"
        obs = env.reset([0], [episode(suite=suite, trial_id=0)])
        assert obs.task_descriptions == [suite_tasks(suite)[0].instruction]
        assert np.isfinite(obs.states).all()
        seen[suffix] = obs.main_images[0], places(env)
        result = env.step([0], np.zeros((1, 8, 7), np.float32))
        assert not result.success.any()
    moved = {name: np.linalg.norm(seen[""][1][name] - place) for name, place in seen["_swap"][1].items()}
    assert max(moved.values()) > 0.1, f"objects have changed places: {moved}"
    assert np.abs(seen[""][0].astype(int) - seen["_swap"][0]).mean() > 1
    assert env._simulator is not None
    goals = env._simulator.domain.parsed_problem["goal_state"]
    assert goals == [["on", "akita_black_bowl_2", "plate_1"]], "not the bowl of the base"


def test_every_task_has_50_trials() -> None:
    for base in BASES:
        for suffix in INSTALLED:
            assert {len(load_init_states(task)) for task in suite_tasks(f"{base}_{suffix}")} == {50}
