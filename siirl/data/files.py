"""Writing a file so that a reader, or a power cut, finds either all of it or nothing new."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file, and rename it to ``file`` once it is on the disk. An error, such as a full
    disk's, leaves nothing behind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as stream:
            write(stream)
        move_durably(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def move_durably(source: Path, target: Path) -> None:
    """Replace ``target`` by ``source`` (on the same disk); both the content and the name survive a power cut."""
    _sync(source)
    os.replace(source, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
