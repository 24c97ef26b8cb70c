"""What a training step's rollout gave: the episodes that train, and what became of the others."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from siirl.data.trajectory import Episode, EpisodeSummary
from siirl.observe.episodes import EpisodeRow


@dataclass
class Batch:
    """What a step's rollout gave.

    Attributes:
        episodes: those of the surviving groups, ordered by group and index.
        summaries: of every episode that was run, dropped ones too.
        groups: groups that were completed.
        dropped: reason → number of groups dropped.
        cancelled: of the episodes that ran when enough groups had survived.
        surplus: episodes that ended and are not needed: of groups that survived too late, or that the cancel left incomplete.
        gen_batches: generation batches that were rolled out.
        passed: numbers of the groups that survived the filters, trained on or surplus.
        sampler: where the sampler stood after it; a run that resumes after this step goes on from there.
    """

    episodes: list[Episode] = field(default_factory=list)
    summaries: list[EpisodeSummary] = field(default_factory=list)
    groups: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cancelled: list[EpisodeSummary] = field(default_factory=list)
    surplus: int = 0
    gen_batches: int = 0
    passed: set[int] = field(default_factory=set)
    sampler: dict[str, Any] = field(default_factory=dict)

    @property
    def rewards(self) -> list[float] | None:
        """The surviving episodes' rewards; None when no group survived."""
        return [float(e.columns["reward"]) for e in self.episodes] or None

    def rows(self, step: int) -> Iterator[EpisodeRow]:
        """What is kept of every episode that was run to its end, as training step ``step`` had it."""
        rewards = {e.summary.spec: float(e.columns["reward"]) for e in self.episodes if "reward" in e.columns}
        for summary in self.summaries:
            kept = summary.spec.group_id in self.passed
            yield EpisodeRow.of(summary, step, "train", reward=rewards.get(summary.spec), kept=kept)

    def metrics(self) -> dict[str, float]:
        """``filter/*``: acceptance rate, drops by reason, generation batches; ``rollout/*``: what oversampling wasted."""
        accepted = self.groups - self.dropped.total()
        found = {"filter/acceptance_rate": accepted / self.groups, "filter/gen_batches": float(self.gen_batches)}
        if self.cancelled or self.surplus:
            found["rollout/surplus_episodes"] = float(self.surplus)
            found["rollout/cancelled_episodes"] = float(len(self.cancelled))
            found["rollout/cancelled_steps"] = float(sum(summary.steps for summary in self.cancelled))
        return found | {f"filter/dropped_{reason}": float(n) for reason, n in self.dropped.items()}
