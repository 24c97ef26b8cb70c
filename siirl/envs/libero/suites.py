"""LIBERO's suites, their tasks and initial states, read without building a simulator."""

import contextlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from siirl.envs.libero import perturbations
from siirl.envs.libero.package import INSTALL_HINT, import_libero
from siirl.registry import did_you_mean

ALIASES = {"libero_long": "libero_10"}

DEFAULT_MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""Episode lengths of OpenVLA's published evaluation: the longest training demonstration, and a little more."""


@dataclass(frozen=True)
class LiberoTask:
    """One task of a suite.

    Attributes:
        suite: canonical suite name.
        task_id: index in the suite.
        instruction: the language goal.
        bddl_file: definition of scene and goal.
        init_states_file: the recorded initial states.
    """

    suite: str
    task_id: int
    instruction: str
    bddl_file: Path
    init_states_file: Path

    @property
    def stored_states(self) -> Path:
        """Where the initial states are: in the authors' file, or in one beside it that was converted to NumPy's format."""
        converted = self.init_states_file.with_name(f"{self.init_states_file.name}.npz")
        return converted if converted.is_file() else self.init_states_file


def canonical_suite(name: str) -> str:
    """The suite's own name: resolves ``libero_long`` to ``libero_10``, and ``libero_long_swap`` to ``libero_10_swap``."""
    for alias, suite in ALIASES.items():
        if name == alias or name.startswith(f"{alias}_"):
            return suite + name.removeprefix(alias)
    return name


def suite_tasks(name: str) -> list[LiberoTask]:
    """The tasks of a suite, in the benchmark's order.

    Raises:
        ValueError: no such suite, one whose files are not installed, or LIBERO is not installed properly.
    """
    suite = canonical_suite(name)
    benchmark = import_libero("benchmark")
    known = set(benchmark.libero_task_map) & set(benchmark.get_benchmark_dict())
    if suite not in known:
        raise ValueError(_unknown(name, known))
    with contextlib.redirect_stdout(io.StringIO()):
        tasks = benchmark.get_benchmark(suite)(0).tasks
    bddl, states = (Path(benchmark.get_libero_path(key)) for key in ("bddl_files", "init_states"))
    found = [
        LiberoTask(
            suite=suite,
            task_id=i,
            instruction=task.language,
            bddl_file=bddl / task.problem_folder / task.bddl_file,
            init_states_file=states / task.problem_folder / task.init_states_file,
        )
        for i, task in enumerate(tasks)
    ]
    files = [file for task in found for file in (task.bddl_file, task.stored_states)]
    if missing := perturbations.missing_files(files):
        raise ValueError(
            f"the installed LIBERO knows the suite {name!r} by name alone: it lacks {missing}; choose another suite, or put the "
            f"files there. With files: {', '.join(_usable(known, bddl, states))}"
        )
    perturbation = perturbations.SUITES.get(suite)
    if perturbation is not None and perturbation.own_instruction:
        found = [replace(task, instruction=perturbations.read_instruction(task.bddl_file)) for task in found]
    return found


def _unknown(name: str, known: set[str]) -> str:
    """The message for a suite that is none."""
    suite = canonical_suite(name)
    usual = ", ".join([*DEFAULT_MAX_STEPS, *ALIASES])
    if suite in perturbations.SUITES:
        return f"the suite {name!r} is LIBERO-PRO's, and the installed LIBERO has only: {usual}; {INSTALL_HINT}"
    hint = did_you_mean(name, sorted({*known, *ALIASES}))
    perturbed = f"; LIBERO-PRO's <suite>_<{'|'.join(perturbations.PERTURBATIONS)}> of {', '.join(perturbations.BASES)}"
    return f"unknown LIBERO suite {name!r}; allowed: {usual}{perturbed if known & perturbations.SUITES.keys() else ''}.{hint}"


def _usable(known: set[str], bddl: Path, states: Path) -> list[str]:
    """The usual suites, and the perturbed ones that have a folder of tasks and one of initial states."""
    names = [*DEFAULT_MAX_STEPS, *perturbations.SUITES]
    return [name for name in names if name in known and (bddl / name).is_dir() and (states / name).is_dir()]


def find_task(suite: str, task_id: int) -> LiberoTask:
    """One task of a suite.

    Raises:
        ValueError: no such suite or task.
    """
    tasks = suite_tasks(suite)
    if not 0 <= task_id < len(tasks):
        raise ValueError(f"suite {suite} has no task {task_id}; allowed: 0 to {len(tasks) - 1}")
    return tasks[task_id]


def base_suite(name: str) -> str | None:
    """The usual suite that a suite is or, as ``libero_goal_swap`` of ``libero_goal``, is a variant of; None without one."""
    suite = canonical_suite(name)
    return next((base for base in DEFAULT_MAX_STEPS if suite == base or suite.startswith(f"{base}_")), None)


def default_max_steps(name: str) -> int:
    """Steps after which an episode of the suite is truncated; a variant such as ``libero_goal_swap`` has its base's.

    Raises:
        ValueError: the suite derives from none of the usual ones.
    """
    base = base_suite(name)
    if base is None:
        raise ValueError(f"suite {name!r} has no usual episode length; set actor_rollout_ref.embodied.env.max_steps")
    return DEFAULT_MAX_STEPS[base]


def load_init_states(task: LiberoTask) -> np.ndarray:
    """The task's recorded simulator states, float64 [trials, state]: time, joint positions, joint velocities.

    Raises:
        ValueError: the file is missing, or holds anything but an array of numbers.
    """
    file = task.stored_states
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays["states"], dtype=np.float64)
    if not file.is_file():
        raise ValueError(f"no initial states at {file}; reinstall LIBERO")
    return load_pickled_states(file)


def load_pickled_states(path: Path) -> np.ndarray:
    """Read a NumPy array that was written by ``torch.save``, as the authors' package ships them, float64.

    A pickle can run any program, so only the functions that rebuild a numeric array are allowed.

    Raises:
        ValueError: the file asks for anything else, or is no such file.
    """
    import torch  # not needed with the converted files

    reconstruct = np.array(0.0).__reduce__()[0]
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.float64)),
        type(np.dtype(np.float32)),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            states = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a plain array of initial states: {error}") from error
    return np.asarray(states, dtype=np.float64)
