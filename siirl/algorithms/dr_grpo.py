"""Dr. GRPO: GRPO without the division by the standard deviation."""

from collections.abc import Sequence

from siirl.algorithms.base import (
    ADVANTAGES,
    Advantages,
    EpisodeReturns,
    Estimator,
    of_whole_episodes,
    scores_and_groups,
)
from siirl.algorithms.grpo import grpo_advantage
from siirl.config.schema import AlgorithmConfig


def dr_grpo(episodes: Sequence[EpisodeReturns], config: AlgorithmConfig) -> Advantages:
    """A_i = s_i − mean of its group; a group of one has no baseline and keeps its raw score.

    Dividing by the standard deviation makes the groups that nearly always fail, or nearly always succeed, weigh most. The
    paper's other change, to divide the loss by no length of an episode's own, is ``actor.loss_agg_mode=token-mean``.

    Source: Liu et al. 2025, *Understanding R1-Zero-Like Training*, arXiv 2503.20783, section 3.
    """
    return of_whole_episodes(grpo_advantage(*scores_and_groups(episodes), normalize_by_std=False))


ADVANTAGES.register("dr_grpo")(Estimator(dr_grpo, needs_values=False, scores_groups=True))
