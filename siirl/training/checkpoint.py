"""Checkpoint folders: written so that a crash at any moment leaves a whole one, found again, verified and rotated."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

STATE, SUMS, LATEST = "trainer_state.json", "SHA256SUMS", "latest_checkpointed_iteration.txt"
METRICS = "metrics.jsonl"
CONFIG = "config.yaml"
PLAN = "plan.json"
WRITTEN = (
    *(METRICS, CONFIG, "episodes", "episodes.parquet", "timeline.jsonl", "journal.jsonl", PLAN),
    *("videos", "report.html"),
)
"""What a run writes beside its checkpoints."""
TEMPORARY = ".tmp"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class CheckpointFailed(Exception):  # noqa: N818  (says what happened: training goes on)
    """A checkpoint could not be written because the disk is full or fails; older checkpoints are untouched."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that verified: its step, its folder, and what ``trainer_state.json`` holds."""

    step: int
    path: Path
    state: dict[str, Any]

    def digest(self) -> str:
        """A SHA-256 sum, hexadecimal, that tells its weights from others: of its list of sums."""
        return hashlib.sha256((self.path / SUMS).read_bytes()).hexdigest()


class CheckpointManager:
    """The checkpoints ``global_step_N`` of a run folder.

    To save::

        with manager.staging(step) as folder:
            ...  # every rank writes its shards into folder
            manager.commit(step, state, names_of_the_shards)

    Args:
        folder: the run folder (``trainer.default_local_dir``).
        keep: checkpoints to keep; older ones are removed once a newer one is complete.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    @contextmanager
    def staging(self, step: int) -> Iterator[Path]:
        """A temporary folder for the checkpoint of ``step``, removed again unless `commit` is called inside.

        Raises:
            CheckpointFailed: the disk is full or fails.
        """
        temporary = self._temporary(step)
        try:
            self._remove_leftovers()
            temporary.mkdir(parents=True)
            yield temporary
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise CheckpointFailed(
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}; the previous ones are "
                "untouched; free disk space, or lower trainer.max_actor_ckpt_to_keep"
            ) from error
        finally:
            if temporary.exists():
                shutil.rmtree(temporary)

    def commit(self, step: int, state: dict[str, Any], written: Sequence[str] = ()) -> Path:
        """Complete the staged checkpoint, point ``latest_checkpointed_iteration.txt`` to it, then remove old ones.

        Args:
            state: what else resuming needs, JSON-like, the run's config under ``config``; ``step`` is added to it.
            written: files that must have come to the staging folder, on whichever machine they were written.

        Raises:
            FileNotFoundError: some of them are not there.
        """
        temporary, final = self._temporary(step), self.folder / f"global_step_{step}"
        if missing := [name for name in written if not (temporary / name).is_file()]:
            raise FileNotFoundError(
                f"{', '.join(missing)} of the checkpoint of step {step} were written, but not to {temporary} as machine "
                f"{socket.gethostname()} sees it: trainer.default_local_dir must be on a file system that all machines share"
            )
        (temporary / STATE).write_text(json.dumps({**state, "step": step}, indent=1))
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        lines = [f"{_sha256(path)}  {path.relative_to(temporary).as_posix()}\n" for path in files]
        (temporary / SUMS).write_text("".join(lines))
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        os.rename(temporary, final)
        _sync(self.folder)
        self._point_to(step)
        for old in self.steps()[: -self.keep]:
            self._remove(self.folder / f"global_step_{old}")
        return final

    def find(self, resume_mode: str, resume_from_path: str | None = None) -> Found | None:
        """The checkpoint to resume from, or None to start anew; afterwards the run folder holds only its past.

        Checkpoints newer than it (broken ones, those of a run that is now repeated from an earlier step, and with
        ``disable`` all of them) are moved to ``set_aside_1/`` and so on: they must be neither resumed from nor counted.
        A run that starts anew also leaves what the one before wrote beside them there (`WRITTEN`).

        Args:
            resume_mode: ``auto``, the newest checkpoint that verifies, if there is any; ``disable``, none;
                ``resume_path``, the folder ``resume_from_path``.

        Raises:
            ValueError: ``resume_from_path`` is missing or broken, or checkpoints are there but none verifies.
        """
        self._remove_leftovers()
        found = None
        if resume_mode == "auto":
            fix = "set trainer.resume_mode=disable to start anew, or another trainer.default_local_dir"
            found = newest(self.folder, fix)
        elif resume_mode == "resume_path":
            found = read(resume_from_path)
        own = found is not None and found.path.resolve().parent == self.folder.resolve()
        self._set_aside_after(found.step if found and own else -1)
        return found

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return saved_steps(self.folder)

    def _set_aside_after(self, step: int) -> None:
        names = [f"global_step_{s}" for s in self.steps() if s > step]
        metrics = self.folder / METRICS
        if step < 0 and metrics.is_file() and metrics.stat().st_size:
            names += [name for name in WRITTEN if (self.folder / name).exists()]
        if not names:
            return
        number = 1
        while (aside := self.folder / f"set_aside_{number}").exists():
            number += 1
        aside.mkdir()
        for name in names:
            os.rename(self.folder / name, aside / name)
        log.warning("%s: not of this run's past, moved to %s", ", ".join(names), aside)
        (self.folder / LATEST).unlink(missing_ok=True)
        if step in self.steps():
            self._point_to(step)

    def _point_to(self, step: int) -> None:
        temporary = self.folder / (LATEST + TEMPORARY)
        temporary.write_text(f"{step}\n")
        _sync(temporary)
        os.replace(temporary, self.folder / LATEST)
        _sync(self.folder)

    def _temporary(self, step: int) -> Path:
        return self.folder / f"global_step_{step}{TEMPORARY}"

    def _remove(self, checkpoint: Path) -> None:
        """Remove a checkpoint; renamed first, so that a crash cannot leave half a one under its name."""
        doomed = checkpoint.with_name(checkpoint.name + TEMPORARY)
        os.rename(checkpoint, doomed)
        shutil.rmtree(doomed)

    def _remove_leftovers(self) -> None:
        """Remove what a save, or a removal, that was killed left behind."""
        for path in self.folder.glob(f"global_step_*{TEMPORARY}"):
            shutil.rmtree(path)


def saved_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a run folder, ascending; none when there is no such folder."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"global_step_(\d+)", name)))


def newest(folder: Path, fix: str) -> Found | None:
    """The newest checkpoint of a run folder that verifies, None when there is none at all; broken ones are warned of.

    Raises:
        ValueError: there are checkpoints but none verifies; ``fix`` says what to do about that.
    """
    wrong = []
    for step in reversed(saved_steps(folder)):
        path = folder / f"global_step_{step}"
        if (problem := verify(path)) is None:
            return open_verified(path)
        log.warning("checkpoint %s is broken: %s; trying the one before", path, problem)
        wrong.append(f"{path}: {problem}")
    if wrong:
        raise ValueError(f"no checkpoint in {folder} verifies ({'; '.join(wrong)}); {fix}")
    return None


def verify(checkpoint: Path, only: str | None = None) -> str | None:
    """What is wrong with a checkpoint folder, or None when it holds all its files with their SHA-256 sums.

    Args:
        only: look at this file alone.
    """
    if not checkpoint.is_dir():
        return "there is no such folder"
    if not (checkpoint / SUMS).is_file():
        return f"{SUMS} is missing"
    entries = [line.partition("  ") for line in (checkpoint / SUMS).read_text().splitlines()]
    if STATE not in {name for _, _, name in entries}:
        return f"{SUMS} does not list {STATE}"
    for digest, _, name in entries:
        if only not in (None, name):
            continue
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if _sha256(checkpoint / name) != digest:
            return f"{name} does not have the SHA-256 sum that {SUMS} lists"
    return None


def read(checkpoint: str | Path | None) -> Found:
    """A checkpoint that the user named.

    Raises:
        ValueError: none is named, or it is missing or broken.
    """
    if not checkpoint:
        raise ValueError("trainer.resume_mode=resume_path needs trainer.resume_from_path: a folder global_step_N")
    path = Path(checkpoint)
    if (problem := verify(path)) is not None:
        raise ValueError(
            f"trainer.resume_from_path: {path} is no checkpoint to resume from: {problem}; name another global_step_N "
            "folder, or set trainer.resume_mode=auto"
        )
    return open_verified(path)


def open_verified(checkpoint: Path) -> Found:
    """What a checkpoint that `verify` found whole holds besides tensors."""
    state = json.loads((checkpoint / STATE).read_text())
    return Found(state["step"], checkpoint, state)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
