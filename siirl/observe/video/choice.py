"""Which episodes get a video, and what its file is called."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from siirl.config.schema import VideoConfig
from siirl.data.trajectory import CANCELLED, EpisodeSummary


@dataclass(frozen=True)
class Reel:
    """The videos of one rollout.

    Attributes:
        split: ``train``, ``val`` or ``eval``.
        step: the training step.
        info, fps, most: `VideoConfig`'s ``info_on_video``, ``fps`` and ``max_per_task``.
    """

    split: str
    step: int
    info: bool
    fps: int
    most: int

    @staticmethod
    def of(config: VideoConfig, split: str, step: int) -> "Reel":
        """As the config says."""
        return Reel(split, step, config.info_on_video, config.fps, config.max_per_task)


def choose(summaries: Iterable[EpisodeSummary], most: int) -> list[EpisodeSummary]:
    """At most ``most`` episodes of each task in each environment, failures first; where ``most`` > 1, one is a success if there
    is any.

    Equals are taken by group and index, so that the choice does not depend on timing, nor on how the episodes are spread:
    who is chosen of all of them is also chosen of any part of them. Cancelled episodes are never.
    """
    tasks: dict[tuple[str, str, int], list[EpisodeSummary]] = defaultdict(list)
    for summary in summaries:
        if summary.drop_reason != CANCELLED:
            tasks[summary.spec.env, summary.spec.suite, summary.spec.task_id].append(summary)
    return [summary for task in sorted(tasks) for summary in _of_task(tasks[task], most)]


def _of_task(summaries: Sequence[EpisodeSummary], most: int) -> list[EpisodeSummary]:
    ordered = sorted(summaries, key=lambda s: (s.spec.group_id, s.spec.index))
    failures, successes = ([s for s in ordered if s.success == success] for success in (False, True))
    room = most - 1 if successes and most > 1 else most
    taken = failures[:room]
    return taken + successes[: most - len(taken)]


def file_name(step: int, summary: EpisodeSummary) -> str:
    """The video's file in its folder, e.g. ``step_000012/libero_spatial_task3_trial17_group5_rep2_failure.mp4``."""
    spec = summary.spec
    outcome = "success" if summary.success else "failure" if summary.drop_reason is None else "dropped"
    episode = f"{spec.suite}_task{spec.task_id}_trial{spec.trial_id}_group{spec.group_id}_rep{spec.index}"
    return f"step_{step:06}/{episode}_{outcome}.mp4"
