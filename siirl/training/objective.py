"""What the update minimises: clipped policy loss − entropy bonus + KL penalty + value loss, summed over a micro-batch.

Everything is a sum, so that micro-batches and ranks add up to the mini-batch; `Units` are what turns sums into means.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from siirl.algorithms.entropy import entropy_bonus
from siirl.algorithms.kl import kl_penalty
from siirl.algorithms.levels import at_level, level_mask
from siirl.algorithms.losses import decoupled_clip_loss, episode_weight
from siirl.algorithms.value_loss import explained_variance, explained_variance_sums, value_loss
from siirl.config.schema import Config
from siirl.data.trajectory import Trajectory
from siirl.policies.base import Evaluation, Policy
from siirl.training.batching import MicroBatch, Share

POLICY_MEANS = ("loss", "entropy", "approx_kl", "clip_fraction", "ratio_mean_abs_dev")
STALE_MEANS = ("behavior_weight_mean", "behavior_kl")
VALUE_MEANS = ("value_loss", "value_clip_fraction")
MOMENTS = ("values", "returns", "returns_squared", "errors", "errors_squared")
"""What `explained_variance_sums` gives, in order."""


@dataclass(frozen=True)
class Units:
    """What a mini-batch has, on all ranks: ratios (of tokens, actions or chunks, as ``algorithm.logprob_type`` says), values."""

    ratios: float
    values: float


class Objective:
    """The loss that the config asks for.

    Args:
        policy: is trained.
        reference: the frozen policy of the KL penalty; None without.

    Attributes:
        names: of the sums that `__call__` gives, in order.
    """

    def __init__(self, policy: Policy, config: Config, device: torch.device, reference: Policy | None) -> None:
        self.policy, self.reference, self.device = policy, reference, device
        self.actor, self.critic = config.actor_rollout_ref.actor, config.critic
        self.level, self.value_level = config.algorithm.logprob_type, config.algorithm.reward_type
        self.temperature = config.actor_rollout_ref.rollout.temperature
        self.means = list(POLICY_MEANS)
        self.means += STALE_MEANS if config.trainer.max_staleness > 0 else ()
        self.means += ("dual_clip_fraction",) if self.actor.clip_ratio_c is not None else ()
        self.means += ("kl_loss",) if reference is not None else ()
        self.value_means = VALUE_MEANS if self.critic.use_critic_model else ()
        moments = MOMENTS if self.critic.use_critic_model else ()
        self.names = (*self.means, *self.value_means, *moments, "logprob_diff", "fresh", "ratios")

    def ratios_of(self, trajectory: Trajectory) -> int:
        """Ratios of an episode, at least 1."""
        return self._units(trajectory, self.level)

    def values_of(self, trajectory: Trajectory) -> int:
        """Values of an episode that are trained; 0 without a value head."""
        return self._units(trajectory, self.value_level) if self.critic.use_critic_model else 0

    def _units(self, trajectory: Trajectory, level: str) -> int:
        steps, chunks = int(trajectory.executed.sum()), int((trajectory.executed > 0).sum())
        return {"token_level": steps * self.policy.action_dim, "action_level": steps, "chunk_level": chunks}[level]

    def weighted(self, share: Share, units: Units) -> Share:
        """The share with weights such that a mean over ratios aggregates as ``actor.loss_agg_mode`` says."""
        mode, episodes = self.actor.loss_agg_mode, share.episodes
        ratios = [self.ratios_of(trajectory) for trajectory in share.trajectories]
        return replace(share, weights=[episode_weight(count, units.ratios, episodes, mode) for count in ratios])

    def evaluate(self, micro: MicroBatch) -> Evaluation:
        """The policy's view of a micro-batch, with gradient."""
        inputs = self.policy.prepare(micro.obs)
        return self.policy.evaluate(inputs, micro.tokens.to(self.device), self.temperature)

    def __call__(self, micro: MicroBatch, units: Units) -> tuple[Tensor, Tensor]:
        """The micro-batch's part of the mini-batch's loss, with gradient, and its sums, float64 [len(names)]."""
        # first: the host prepares images while the device still computes the last ones
        now = self.evaluate(micro)
        sums: dict[str, Tensor] = {}
        loss = self._policy_loss(micro, now, sums) / units.ratios
        if self.critic.use_critic_model:
            loss = loss + self.critic.loss_coef * self._value_loss(micro, now, sums) / units.values
        fresh = (micro.mask & micro.fresh[:, None]).to(self.device)
        gap = now.log_probs.detach() - micro.behavior.to(self.device)
        sums |= {"logprob_diff": torch.where(fresh, gap.abs(), 0.0).sum(), "fresh": fresh.sum()}
        return loss, torch.stack([sums[name].detach().double() for name in self.names])

    def _policy_loss(self, micro: MicroBatch, now: Evaluation, sums: dict[str, Tensor]) -> Tensor:
        """Summed over ratios."""
        actor, tokens, weights = self.actor, micro.mask.to(self.device), micro.weights.to(self.device)
        new, mask = self._at_level(now.log_probs, tokens)
        behavior, proximal = (self._at_level(x.to(self.device), tokens)[0] for x in (micro.behavior, micro.proximal))
        clipped, gap = decoupled_clip_loss(
            new,
            proximal,
            behavior,
            micro.advantages.to(self.device) * weights[:, None],
            mask,
            actor.clip_ratio_low,
            actor.clip_ratio_high,
            actor.behavior_weight_cap,
            actor.clip_ratio_c,
        )
        entropies = self._at_level(now.entropy, tokens)[0]
        loss = clipped.loss_sum
        if actor.entropy_coeff:
            loss = loss - actor.entropy_coeff * entropy_bonus(entropies, mask, weights)
        if self.reference is not None:
            reference = self._reference_log_probs(micro, tokens)
            sums["kl_loss"] = kl_penalty(new, reference, mask, actor.kl_loss_type, weights)
            loss = loss + actor.kl_loss_coef * sums["kl_loss"]
        sums |= {
            "loss": loss,
            "entropy": torch.where(mask, entropies, 0.0).sum(),
            "approx_kl": clipped.kl_sum,
            "clip_fraction": clipped.clipped_sum,
            "ratio_mean_abs_dev": clipped.ratio_deviation_sum,
            "dual_clip_fraction": clipped.dual_clipped_sum,
            "behavior_weight_mean": gap.weight_sum,
            "behavior_kl": gap.kl_sum,
            "ratios": mask.sum(),
        }
        return loss

    def _value_loss(self, micro: MicroBatch, now: Evaluation, sums: dict[str, Tensor]) -> Tensor:
        """Summed over values."""
        assert now.values is not None, "the policy has a value head"
        assert micro.values is not None, "the policy that acted had one"
        assert micro.returns is not None, "the advantage estimator gives returns"
        old, returns = micro.values.to(self.device), micro.returns.to(self.device)
        mask = level_mask(micro.mask.to(self.device), self.value_level, self.policy.action_dim)
        found = value_loss(now.values, old, returns, mask, self.critic.clip, self.critic.huber_delta)
        sums |= {"value_loss": found.loss_sum, "value_clip_fraction": found.clipped_sum}
        sums |= dict(zip(MOMENTS, explained_variance_sums(returns, old, mask), strict=True))
        return found.loss_sum

    @torch.no_grad()
    def _reference_log_probs(self, micro: MicroBatch, tokens: Tensor) -> Tensor:
        assert self.reference is not None
        inputs = self.reference.prepare(micro.obs)
        evaluation = self.reference.evaluate(inputs, micro.tokens.to(self.device), self.temperature)
        return self._at_level(evaluation.log_probs, tokens)[0]

    def _at_level(self, numbers: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return at_level(numbers, tokens, self.level, self.policy.action_dim)

    def metrics(self, steps: Sequence[dict[str, float]]) -> dict[str, float]:
        """``actor/…`` and ``critic/…`` from the sums of optimizer steps."""
        total = {name: sum(step[name] for step in steps) for name in self.names}
        found = {f"actor/{name}": total[name] / total["ratios"] for name in self.means}
        found |= {f"actor/{name}": total[name] / total["values"] for name in self.value_means}
        if self.value_means:
            moments = torch.tensor([total[name] for name in MOMENTS], dtype=torch.float64)
            found["critic/explained_variance"] = explained_variance(moments)
        return found
