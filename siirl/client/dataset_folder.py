"""A folder that one process at a time writes to, and a dataset that is collected into one, possibly with interruptions."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siirl.data.files import write_atomically
from siirl.envs.demonstrations import PARTIAL

SETTINGS = "meta/collection.json"
"""How the dataset was collected; other programs do not read it."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Inside, no other command may write to ``folder``. Raises ValueError when one does."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ValueError(f"--out {folder}: another command is writing to it; wait for it, or name another") from error
    finally:
        os.close(descriptor)


def claim(out: Path, wanted: Mapping[str, Any]) -> None:
    """Continue or start a collection with the settings ``wanted``; what a killed one left half done is removed.

    Raises:
        ValueError: the folder holds something else, or was collected with other settings.
    """
    for leftover in out.glob(PARTIAL.format("*")):
        leftover.unlink()
    file = out / SETTINGS
    if file.exists():
        found = json.loads(file.read_text())
        if found != wanted:
            raise ValueError(f"--out {out} was collected with {found}; now it is {wanted}: name another folder")
    elif any(out.iterdir()):
        raise ValueError(
            f"--out {out} is not empty and holds no collection of ours (no {SETTINGS}); name another folder"
        )
    else:
        write_atomically(file, lambda stream: stream.write(json.dumps(wanted).encode()))
