"""The recorded frames that imagined episodes start from.

A folder of them has two files: ``initial_states.parquet``, one row per state (instruction, trial_id, source), and
``initial_states.safetensors``, whose ``frames`` uint8 [N, H, W, 3] are in the same order, so that one frame can be read
without the others. Published folders have whole trajectories instead, ``traj0.npy``, ``traj1.npy``, …, mostly pickled; these are
converted once, which reads nothing but arrays out of the pickles:

    python -m siirl.envs.world_model.initial_states FOLDER
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from siirl.config.schema import WorldModelConfig
from siirl.data.files import write_atomically
from siirl.envs.world_model.npy import first_frame

TABLE, FRAMES = "initial_states.parquet", "initial_states.safetensors"
SCHEMA = pa.schema([("instruction", pa.string()), ("trial_id", pa.int64()), ("source", pa.string())])
HOW = "write both with: python -m siirl.envs.world_model.initial_states <folder of traj*.npy>"
KEY_FRAMES = "_kir"
"""In the names of trajectories that start in the middle of a task; they are no initial states."""


@dataclass(frozen=True)
class InitialState:
    """Where an episode starts.

    Attributes:
        frame: uint8 [H, W, 3].
        instruction: the language goal.
        trial_id: its number among those of the goal.
        source: what it was taken from.
    """

    frame: np.ndarray
    instruction: str
    trial_id: int
    source: str


class InitialStates:
    """A folder's states by goal and trial: trial i of a goal is the one with its i-th smallest number. Frames stay on the disk.

    Raises:
        ValueError: a file is missing or damaged, or the two contradict each other; says the fix.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, list[int]] = defaultdict(list)
        try:
            table = pq.read_table(folder / TABLE, schema=SCHEMA)
            with safe_open(folder / FRAMES, "numpy") as file:
                frames = file.get_slice("frames")
                self._shape, kind = tuple(frames.get_shape()), frames.get_dtype()
        except (OSError, pa.ArrowException, SafetensorError) as error:
            raise ValueError(f"{folder} holds no readable {TABLE} and {FRAMES} ({error}); {HOW}") from error
        if kind != "U8" or len(self._shape) != 4 or self._shape[0] != len(table) or self._shape[3] != 3:
            raise ValueError(
                f"{folder}: {FRAMES} has frames {kind} {list(self._shape)}, but {TABLE} has {len(table)} rows; allowed: a frame "
                f"U8 [height, width, 3] for each row; {HOW}"
            )
        order = sorted(enumerate(table.to_pylist()), key=lambda row: (row[1]["trial_id"], row[0]))
        for number, row in order:
            self._rows[_goal(row["instruction"])].append(number)

    def count(self, instruction: str) -> int:
        """How many states there are of a goal."""
        return len(self._rows.get(_goal(instruction), ()))

    def frame(self, instruction: str, trial_id: int) -> np.ndarray:
        """The frame of a trial, uint8 [H, W, 3]; nothing else is read.

        Raises:
            ValueError: there is no such trial; says which there are.
        """
        count = self.count(instruction)
        if not 0 <= trial_id < count:
            raise ValueError(f"{self.folder} has {count} initial states of {instruction!r}, and no trial {trial_id}")
        row = self._rows[_goal(instruction)][trial_id]
        with safe_open(self.folder / FRAMES, "numpy") as file:
            return np.asarray(file.get_slice("frames")[row : row + 1])[0]

    def check_size(self, size: int) -> None:
        """Raises ValueError unless frames are ``size`` pixels wide and high."""
        if self._shape[1:3] != (size, size):
            height, width = self._shape[1:3]
            raise ValueError(
                f"the frames in {self.folder} are {height}×{width}; allowed: actor_rollout_ref.embodied.env.image_size={size} "
                "squared, as the world model imagines them; set it to their size, or use frames of that size"
            )

    def described(self) -> str:
        """The goals that there are, in words."""
        return "; ".join(f"{goal} ({len(rows)})" for goal, rows in self._rows.items())


def initial_states_folder(settings: WorldModelConfig) -> Path:
    """Where the settings say that the states are."""
    assert settings.path is not None, "asked for where a model is named"
    return Path(settings.initial_image_path or Path(settings.path) / "dataset")


def open_initial_states(settings: WorldModelConfig) -> InitialStates:
    """The states that the settings name.

    Raises:
        ValueError: there is no such folder, it was not converted, or is damaged; says the fix.
    """
    folder = initial_states_folder(settings)
    if not folder.is_dir():
        raise ValueError(
            f"no initial states at {folder}; allowed: a folder with {TABLE} and {FRAMES}, or with traj*.npy to convert. Fix: "
            "actor_rollout_ref.embodied.env.world_model.initial_image_path=<folder>"
        )
    if not (folder / TABLE).is_file() and trajectories(folder):
        raise ValueError(
            f"{folder} holds {len(trajectories(folder))} trajectories that must be converted once, so that a start reads one "
            f"frame and no pickle: python -m siirl.envs.world_model.initial_states {folder}"
        )
    return InitialStates(folder)


def trajectories(folder: Path) -> list[Path]:
    """The published trajectories in a folder, by number."""

    def number(file: Path) -> tuple[int, str]:
        found = re.search(r"\d+", file.stem)
        return int(found[0]) if found else -1, file.name

    return sorted((file for file in folder.glob("*.npy") if KEY_FRAMES not in file.stem), key=number)


def write_initial_states(folder: Path, states: Sequence[InitialState]) -> None:
    """Write both files. Raises ValueError when there are no states, or frames of several sizes."""
    if not states:
        raise ValueError(f"there are no initial states to write to {folder}")
    if sizes := {state.frame.shape for state in states[1:]} - {states[0].frame.shape}:
        first, other = states[0].frame.shape, next(iter(sizes))
        raise ValueError(f"initial states of one size are needed; {states[0].source} has {first}, others {other}")
    frames = np.stack([state.frame for state in states])
    rows = [{name: getattr(state, name) for name in SCHEMA.names} for state in states]
    table = pa.Table.from_pylist(rows, SCHEMA)
    write_atomically(folder / FRAMES, lambda stream: stream.write(save({"frames": frames})))
    write_atomically(folder / TABLE, lambda stream: pq.write_table(table, stream))


def convert(folder: Path) -> int:
    """Write the two files of a folder of trajectories beside them; returns how many states they hold. Trials of a goal are
    numbered in the order of the files.

    Raises:
        ValueError: there are none, or one is damaged or holds more than arrays; names it.
    """
    files = trajectories(folder)
    if not files:
        raise ValueError(f"{folder} holds no traj*.npy; name the published folder of initial states")
    states: list[InitialState] = []
    trials: dict[str, int] = defaultdict(int)
    for file in files:  # one after the other: a trajectory is large, and only its first frame is kept
        frame, instruction = first_frame(file)
        states.append(InitialState(frame, instruction, trials[_goal(instruction)], file.name))
        trials[_goal(instruction)] += 1
    write_initial_states(folder, states)
    return len(states)


def _goal(instruction: str) -> str:
    """What instructions are compared by."""
    return " ".join(instruction.lower().split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert the folder of the command line; returns the exit code: 0 done, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(
        "python -m siirl.envs.world_model.initial_states", description="Convert traj*.npy files, once."
    )
    parser.add_argument("folder", type=Path, help="folder of traj0.npy, traj1.npy, …")
    try:
        folder = parser.parse_args(arguments).folder
        count = convert(folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{count} initial states in {folder}: {InitialStates(folder).described()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
