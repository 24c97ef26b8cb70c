"""Episode summaries for tests."""

from siirl.data.trajectory import EpisodeSpec, EpisodeSummary


def summary(success: bool, task_id: int = 0, steps: int = 100, **rest: object) -> EpisodeSummary:
    """A finished episode of ``libero_spatial``."""
    spec = EpisodeSpec("libero_spatial", task_id, 0, "pick it up", 220, 0, 0, 0, 0)
    return EpisodeSummary(spec, success, steps, steps // 8, truncated=not success, policy_version=0, **rest)
