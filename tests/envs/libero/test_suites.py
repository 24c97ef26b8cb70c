import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.config.schema import EnvConfig
from siirl.envs.base import Task
from siirl.envs.libero import LiberoEnv
from siirl.envs.libero.suites import load_init_states, load_pickled_states, suite_tasks


def test_lists_tasks_without_a_simulator() -> None:
    tasks = LiberoEnv.tasks(EnvConfig(env_name="libero_spatial", task_ids=[2, 0]))
    assert tasks == [
        Task("libero_spatial", 2, "pick up the black bowl from table center and place it on the plate", 50),
        Task(
            "libero_spatial",
            0,
            "pick up the black bowl between the plate and the ramekin and place it on the plate",
            50,
        ),
    ]


@pytest.mark.parametrize(
    ("suite", "tasks", "max_steps"),
    [
        ("libero_spatial", 10, 220),
        ("libero_object", 10, 280),
        ("libero_goal", 10, 300),
        ("libero_10", 10, 520),
        ("libero_90", 90, 400),
        ("libero_goal_swap", 10, 300),
    ],
)
def test_sizes_and_episode_lengths(suite: str, tasks: int, max_steps: int) -> None:
    assert len(suite_tasks(suite)) == tasks
    assert LiberoEnv.default_max_steps(EnvConfig(env_name=suite)) == max_steps


def test_libero_long_is_libero_10() -> None:
    long, ten = EnvConfig(env_name="libero_long"), EnvConfig(env_name="libero_10")
    assert LiberoEnv.tasks(long) == LiberoEnv.tasks(ten)
    assert LiberoEnv.default_max_steps(long) == 520
    assert LiberoEnv.tasks(long)[0].suite == "libero_10"


def test_unknown_suite_says_what_is_allowed() -> None:
    with pytest.raises(
        ValueError, match=r"unknown LIBERO suite 'libero_spacial'; allowed: libero_spatial, .*'libero_spatial'\?"
    ):
        LiberoEnv.tasks(EnvConfig(env_name="libero_spacial"))


def test_unknown_task_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="suite libero_spatial has no task 10; allowed: 0 to 9"):
        LiberoEnv.tasks(EnvConfig(env_name="libero_spatial", task_ids=[0, 10]))


def test_suite_without_usual_length_asks_for_one() -> None:
    with pytest.raises(ValueError, match=r"libero_mine.*set actor_rollout_ref\.embodied\.env\.max_steps"):
        LiberoEnv.default_max_steps(EnvConfig(env_name="libero_mine"))


def test_published_pickles_load_to_the_same_states(tmp_path: Path) -> None:
    """The authors' files were written by ``torch.save`` with NumPy 1's module names."""
    states = load_init_states(suite_tasks("libero_spatial")[0])
    torch.save(states, tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "new") as new, zipfile.ZipFile(tmp_path / "old", "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    for file in ("new", "old"):
        np.testing.assert_array_equal(load_pickled_states(tmp_path / file), states)
    assert states.shape == (50, states.shape[1])


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("legacy", [True, False])
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    trace, file = tmp_path / "trace", tmp_path / "task.pruned_init"
    if legacy:
        file.write_bytes(pickle.dumps(Malicious(trace)))
    else:
        torch.save(Malicious(trace), file)
    with pytest.raises(ValueError, match=r"task\.pruned_init is not a plain array of initial states"):
        load_pickled_states(file)
    assert not trace.exists()
    pickle.load(io.BytesIO(pickle.dumps(Malicious(trace))))  # noqa: S301  the attack does work on an open door
    assert trace.exists()
