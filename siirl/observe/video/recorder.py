"""Draws and encodes episodes where they ran, beside the rollout."""

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Trajectory
from siirl.observe.video.choice import Reel, choose
from siirl.observe.video.drawing import frames
from siirl.observe.video.encoding import encode

log = logging.getLogger(__name__)

MOST_WAITING = 8
"""Episodes whose frames wait to be encoded; while there are as many, further ones get no video."""
REELS_KEPT = 2
"""Of each split: the next rollout may begin while the videos of the last one are still asked for."""
NICE = 10
"""Of the thread, Linux's: simulators and the policy go first."""


@dataclass
class _Candidate:
    """An episode that may be chosen: its frames until they are encoded, then the file.

    Attributes:
        trajectory: None once it is encoded.
        video: the MP4 file; None before, and where it failed.
    """

    summary: EpisodeSummary
    trajectory: Trajectory | None
    video: bytes | None = None


class Recorder:
    """Makes videos of the episodes that may still be among the chosen ones, in one thread of low priority.

    `offer` and `take` may be called from any thread; `offer` returns at once.
    """

    def __init__(self) -> None:
        self._reels: dict[Reel, list[_Candidate]] = {}
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._missed = 0
        self._closed = False

    def offer(self, reel: Reel, trajectory: Trajectory) -> None:
        """Make a video of an episode, unless others of its task come first; those that it comes before are let go."""
        summary = trajectory.summary
        with self._news:
            candidates = self._reel(reel)
            chosen = choose([*(c.summary for c in candidates), summary], reel.most)
            if summary not in chosen:
                return
            if len(self._waiting()) >= MOST_WAITING:
                self._miss()
                return
            self._let_go([c for c in candidates if c.summary not in chosen])
            candidates[:] = [c for c in candidates if c.summary in chosen]
            candidates.append(_Candidate(summary, trajectory))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="videos", daemon=True)
                self._thread.start()
            self._news.notify_all()

    def take(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> list[tuple[EpisodeSpec, bytes]]:
        """The MP4 files of those episodes that were offered here, waited for. Each is handed out once."""
        wanted = set(specs)
        with self._news:
            held = [c for c in self._reels.get(reel, []) if c.summary.spec in wanted]
            self._news.wait_for(lambda: self._closed or all(c.trajectory is None for c in held))
            files = [(c.summary.spec, c.video) for c in held]
            for candidate in held:
                candidate.video = None
        return [(spec, video) for spec, video in files if video is not None]

    def close(self) -> None:
        """End the thread; what waits is not encoded."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _reel(self, reel: Reel) -> list[_Candidate]:
        """The candidates of a reel; with a new one, old ones of its split are forgotten."""
        if reel not in self._reels:
            before = [other for other in self._reels if other.split == reel.split]
            for old in before[: len(before) + 1 - REELS_KEPT]:
                self._let_go(self._reels.pop(old))
            self._reels[reel] = []
        return self._reels[reel]

    def _let_go(self, candidates: Sequence[_Candidate]) -> None:
        """They will not be encoded: whoever waits for them gets no video."""
        for candidate in candidates:
            candidate.trajectory = None
        self._news.notify_all()

    def _waiting(self) -> list[tuple[Reel, _Candidate]]:
        return [(reel, c) for reel, held in self._reels.items() for c in held if c.trajectory is not None]

    def _miss(self) -> None:
        self._missed += 1
        if self._missed.bit_count() == 1:  # 1, 2, 4, 8 …
            log.warning(
                "%d episodes got no video: more of them end than can be encoded beside the rollout", self._missed
            )

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # of this thread alone, on Linux
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closed or self._waiting())
                if self._closed:
                    return
                reel, candidate = self._waiting()[0]
                trajectory = candidate.trajectory
                assert trajectory is not None, "it waits"
            video = None
            try:
                video = encode(frames(trajectory, reel.info), reel.fps)
            except Exception:  # a run does not end for want of a video
                log.exception("no video of %s", trajectory.summary.spec.prompt_id)
            with self._news:
                candidate.trajectory, candidate.video = None, video
                self._news.notify_all()
