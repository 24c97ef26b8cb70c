"""The manifest: which (task, trial) pairs train and which validate; two Parquet files made from the simulator's tasks.

Columns: suite, task_id, trial_id, prompt_id, instruction, split (``train`` or ``validate``), max_steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from siirl.config.environments import TRAINING
from siirl.config.schema import Config
from siirl.data.files import write_atomically

SCHEMA = pa.schema(
    [
        ("suite", pa.string()),
        ("task_id", pa.int64()),
        ("trial_id", pa.int64()),
        ("prompt_id", pa.string()),
        ("instruction", pa.string()),
        ("split", pa.string()),
        ("max_steps", pa.int64()),
    ]
)


class TaskInfo(Protocol):
    """What the manifest needs to know of a task; `siirl.envs.base.Task` is one."""

    @property
    def suite(self) -> str: ...
    @property
    def task_id(self) -> int: ...
    @property
    def instruction(self) -> str: ...
    @property
    def num_trials(self) -> int: ...


@dataclass(frozen=True)
class Prompt:
    """A (task, trial) pair: the language goal and the initial state that a group's episodes share.

    Attributes:
        suite, task_id, trial_id, instruction: as in `siirl.data.trajectory.EpisodeSpec`.
        split: ``train`` or ``validate``.
        max_steps: environment steps after which its episodes are truncated.
        env: which of the run's environments they run in, see `siirl.config.environments`; not in the file.
    """

    suite: str
    task_id: int
    trial_id: int
    instruction: str
    split: str
    max_steps: int
    env: str = TRAINING

    @property
    def prompt_id(self) -> str:
        """E.g. ``libero_spatial/3/17``, as of `EpisodeSpec.prompt_id`."""
        return f"{self.suite}/{self.task_id}/{self.trial_id}"

    def row(self) -> dict[str, str | int]:
        """Its row in the file."""
        return {name: getattr(self, name) for name in SCHEMA.names}


def build_prompts(config: Config, tasks: Sequence[TaskInfo], max_steps: int) -> tuple[list[Prompt], list[Prompt]]:
    """The training and the validation prompts that the config asks for, in the order of tasks and trials.

    Of each task's first ``num_trials_per_task`` trials, the last ``num_holdout_trials`` validate and the others train;
    with no hold-out both splits get all of them, and with all of them held out none are left to train.

    Args:
        config: the run's config.
        tasks: the tasks to use.
        max_steps: environment steps after which an episode is truncated, when the config names no number.

    Raises:
        ValueError: a task has fewer trials than ``num_trials_per_task``.
    """
    env = config.actor_rollout_ref.embodied.env
    steps = env.max_steps if env.max_steps is not None else max_steps
    first_held_out = env.num_trials_per_task - env.num_holdout_trials
    train, validate = [], []
    for task in tasks:
        if task.num_trials < env.num_trials_per_task:
            raise ValueError(
                f"actor_rollout_ref.embodied.env.num_trials_per_task={env.num_trials_per_task}, but task "
                f"{task.task_id} of {task.suite} has {task.num_trials} trials; allowed: at most {task.num_trials}."
            )
        for trial in range(env.num_trials_per_task):
            place = (task.suite, task.task_id, trial, task.instruction)
            if env.num_holdout_trials == 0 or trial < first_held_out:
                train.append(Prompt(*place, "train", steps))
            if env.num_holdout_trials == 0 or trial >= first_held_out:
                validate.append(Prompt(*place, "validate", steps))
    return train, validate


def ensure_manifests(config: Config, train: list[Prompt], validate: list[Prompt]) -> None:
    """Keep prompts in ``data.train_files`` and ``data.val_files``; with ``trainer.val_only`` in the latter alone.

    A file that is not there yet is written, atomically; one that is there must hold exactly these prompts.

    Raises:
        ValueError: as `manifest_problems` tells.
    """
    if problems := manifest_problems(config, train, validate):
        raise ValueError("\n".join(problems))
    for _, file, table in _files(config, train, validate):
        if not file.exists():
            write_atomically(file, partial(pq.write_table, table))


def manifest_problems(config: Config, train: list[Prompt], validate: list[Prompt]) -> list[str]:
    """What is wrong with the files that are there: no Parquet manifest, or other prompts than these (both are shown)."""
    files = _files(config, train, validate)
    found = [_problem(key, file, table) for key, file, table in files if file.exists()]
    return [problem for problem in found if problem is not None]


def _files(config: Config, train: list[Prompt], validate: list[Prompt]) -> list[tuple[str, Path, pa.Table]]:
    """The manifests that the run reads: the key that names the file, the file, and what it must hold."""
    files = [("data.train_files", config.data.train_files, train), ("data.val_files", config.data.val_files, validate)]
    if config.trainer.val_only:
        del files[0]
    return [(key, Path(name), pa.Table.from_pylist([p.row() for p in rows], SCHEMA)) for key, name, rows in files]


def _problem(key: str, file: Path, wanted: pa.Table) -> str | None:
    """Why a file does not do for ``wanted``."""
    fix = f"Delete {file} to have it written anew, or set {key} to another file."
    try:
        found = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        return f"{key}={file} cannot be read as a Parquet manifest ({error}). {fix}"
    if not found.schema.equals(wanted.schema):
        columns = f"the file has {_columns(found)}; a manifest has {_columns(wanted)}"
        return f"{key}={file} has other columns than a manifest: {columns}. {fix}"
    if not found.equals(wanted):
        return f"{key}={file} does not match the config:\n{_difference(found, wanted)}\n{fix}"
    return None


def _columns(table: pa.Table) -> str:
    return ", ".join(f"{f.name} ({f.type})" for f in table.schema)


def _difference(found: pa.Table, wanted: pa.Table) -> str:
    """Both manifests side by side: numbers of rows, columns with other values, and the first row that differs."""
    lines = [f"  rows: {found.num_rows} in the file, {wanted.num_rows} from the config"]
    for name in SCHEMA.names:
        if set(found[name].to_pylist()) != set(wanted[name].to_pylist()):
            lines.append(f"  {name}: {_values(found, name)} in the file, {_values(wanted, name)} from the config")
    pairs = enumerate(zip_longest(found.to_pylist(), wanted.to_pylist()))
    row, (theirs, ours) = next((row, pair) for row, pair in pairs if pair[0] != pair[1])
    lines.append(f"  first difference, row {row}: {theirs} in the file, {ours} from the config")
    return "\n".join(lines)


def _values(table: pa.Table, name: str, most: int = 3) -> str:
    """The distinct values of a column, in short."""
    values = table[name].unique().to_pylist()
    if len(values) > most and isinstance(values[0], int):
        return f"{min(values)} to {max(values)} ({len(values)} different)"
    return ", ".join(map(str, values[:most])) + (f", … ({len(values)} different)" if len(values) > most else "")
