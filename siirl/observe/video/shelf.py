"""The folder of a run's videos, as the driver keeps it: what is written, and what makes room."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from os.path import relpath
from pathlib import Path
from typing import Protocol

from siirl.config.schema import Config, VideoConfig
from siirl.config.videos import video_folder
from siirl.data.files import write_atomically
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary
from siirl.observe.video.choice import Reel, choose, file_name

log = logging.getLogger(__name__)

Files = list[tuple[EpisodeSpec, bytes]]
CLOSE_SECONDS = 30.0
"""Longest time for which the end of a run waits for videos."""
PATTERN = "step_*/*_task*_trial*_group*_rep*_*.mp4"
"""What is ours in the folder; nothing else is ever removed."""


class Parts(Protocol):
    """Files that somebody is still making."""

    def result(self) -> Files:
        """Wait for them."""
        ...


Fetch = Callable[[Reel, Sequence[EpisodeSpec]], Sequence[Parts]]
"""Asks every worker for the files of those episodes that ran there."""


class Shelf:
    """The videos of a split: says which episodes get one, and has them written by a thread of its own.

    Nothing here ends a run: a file that cannot be written is told and left out.

    Args:
        config: of the split.
        run_folder: the run's folder.
        split: ``train``, ``val`` or ``eval``.
    """

    def __init__(self, config: VideoConfig, run_folder: Path, split: str) -> None:
        self._config, self._split = config, split
        self._run_folder = run_folder.absolute()
        self.folder = video_folder(config, self._run_folder, split)
        self._asked: set[EpisodeSpec] = set()
        self._asked_step = -1
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False

    def reel(self, step: int) -> Reel | None:
        """What a rollout is told of its videos; None without any."""
        return Reel.of(self._config, self._split, step) if self._config.save_video else None

    def keep(self, step: int, summaries: Sequence[EpisodeSummary], fetch: Fetch) -> list[EpisodeSummary]:
        """Write the videos of the chosen ones of a step's episodes, in the background; the summaries with their `video`.

        May be called again with more episodes of the same step: files of those that are chosen no more are removed. So are files
        of the step that an earlier attempt at it has left.

        Args:
            step: the training step.
            summaries: all of its episodes so far.
            fetch: asks the workers for files.
        """
        reel = self.reel(step)
        if reel is None:
            return list(summaries)
        names = {summary.spec: file_name(step, summary) for summary in choose(summaries, self._config.max_per_task)}
        if step != self._asked_step:
            self._asked, self._asked_step = set(), step
        new = [spec for spec in names if spec not in self._asked]
        self._asked |= set(new)
        parts = fetch(reel, new) if new else []
        self._do(lambda: self._write(step, names, parts))
        prefix = relpath(self.folder, self._run_folder)
        return [replace(s, video=f"{prefix}/{names[s.spec]}") if s.spec in names else s for s in summaries]

    def close(self) -> None:
        """Wait for what is being written, but not for long."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                log.warning("the last videos were not finished within %.0f s and are left out", CLOSE_SECONDS)

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"videos {self._split}", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # a run does not end for want of a video
                log.exception("videos in %s are missing", self.folder)

    def _write(self, step: int, names: dict[EpisodeSpec, str], parts: Sequence[Parts]) -> None:
        """Remove what is not among ``names`` of the step, and write the files as they come."""
        for file in self.folder.glob(PATTERN.replace("step_*", f"step_{step:06}")):
            if f"{file.parent.name}/{file.name}" not in names.values():
                file.unlink()
        for part in parts:
            for spec, content in part.result():
                self._write_one(self.folder / names[spec], content)
        self._make_room()

    def _write_one(self, file: Path, content: bytes) -> None:
        try:
            write_atomically(file, lambda stream: stream.write(content))
        except OSError as error:
            if not self._failing:
                log.warning("%s cannot be written: %s; videos are left out until it can", self.folder, error)
            self._failing = True
        else:
            self._failing = False

    def _make_room(self) -> None:
        """Remove the oldest steps' videos while all of them take too much."""
        files = sorted(self.folder.glob(PATTERN), key=lambda file: (file.stat().st_mtime, file.name))
        sizes = {file: file.stat().st_size for file in files}
        total = sum(sizes.values())
        for file in files:
            if total <= self._config.max_total_mb * 1e6:
                break
            total -= sizes[file]
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()


class Shelves:
    """The `Shelf` of training and that of validation, as the config says."""

    def __init__(self, config: Config) -> None:
        env, run_folder = config.actor_rollout_ref.embodied.env, Path(config.trainer.default_local_dir)
        configs = {"train": env.video_cfg, "val": env.val_video_cfg}
        self._shelves = {split: Shelf(video, run_folder, split) for split, video in configs.items()}

    def __getitem__(self, split: str) -> Shelf:
        return self._shelves[split]

    def close(self) -> None:
        """Close all of them."""
        for shelf in self._shelves.values():
            shelf.close()
