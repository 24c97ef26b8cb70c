"""What the update minimises: clipped policy loss − entropy bonus + KL penalty + value loss, summed over a micro-batch.

Everything is a sum, so that micro-batches and ranks add up to the mini-batch; `Units` are what turns sums into means.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from siirl.algorithms.kl import kl_penalty
from siirl.algorithms.levels import at_level
from siirl.algorithms.losses import decoupled_clip_loss, episode_weight
from siirl.algorithms.value_loss import explained_variance, value_loss
from siirl.config.schema import Config
from siirl.data.trajectory import Target, Trajectory
from siirl.policies.base import Evaluation, Policy
from siirl.training.batching import MicroBatch, Share

POLICY_MEANS = ("loss", "entropy", "approx_kl", "clip_fraction", "ratio_mean_abs_dev")
STALE_MEANS = ("behavior_weight_mean", "behavior_kl")
VALUE_MEANS = ("value_loss", "value_clip_fraction")
MOMENTS = ("returns", "returns_squared", "errors", "errors_squared")


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
        self.level = config.algorithm.logprob_type
        self.temperature = config.actor_rollout_ref.rollout.temperature
        self.values_per_chunk = policy.chunk_len if config.algorithm.reward_type == "action_level" else 1
        self.means = list(POLICY_MEANS)
        self.means += STALE_MEANS if config.trainer.max_staleness > 0 else ()
        self.means += ("dual_clip_fraction",) if self.actor.clip_ratio_c is not None else ()
        self.means += ("kl_loss",) if reference is not None else ()
        self.value_means = VALUE_MEANS if self.critic.use_critic_model else ()
        moments = MOMENTS if self.critic.use_critic_model else ()
        self.names = (*self.means, *self.value_means, *moments, "logprob_diff", "fresh", "ratios", "values")

    def ratios_of(self, trajectory: Trajectory) -> int:
        """Ratios of an episode, at least 1."""
        steps, chunks = int(trajectory.executed.sum()), int((trajectory.executed > 0).sum())
        return {"token_level": steps * self.policy.action_dim, "action_level": steps, "chunk_level": chunks}[self.level]

    def values_of(self, trajectory: Trajectory) -> int:
        """Values of an episode that are trained; 0 without a value head."""
        if not self.critic.use_critic_model:
            return 0
        return int(trajectory.executed.sum() if self.values_per_chunk > 1 else (trajectory.executed > 0).sum())

    def weighted(self, share: Share, units: Units) -> Share:
        """The share with advantages such that a mean over ratios aggregates as ``actor.loss_agg_mode`` says."""
        mode = self.actor.loss_agg_mode
        weights = [
            episode_weight(self.ratios_of(trajectory), units.ratios, share.episodes, mode)
            for trajectory in share.trajectories
        ]
        targets = [Target(t.advantage * w, t.returns) for t, w in zip(share.targets, weights, strict=True)]
        return replace(share, targets=targets)

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
        else:
            sums["values"] = torch.zeros((), device=self.device)
        fresh = (micro.mask & micro.fresh[:, None]).to(self.device)
        gap = now.log_probs.detach() - micro.behavior.to(self.device)
        sums |= {"logprob_diff": torch.where(fresh, gap.abs(), 0.0).sum(), "fresh": fresh.sum()}
        return loss, torch.stack([sums[name].detach().double() for name in self.names])

    def _policy_loss(self, micro: MicroBatch, now: Evaluation, sums: dict[str, Tensor]) -> Tensor:
        """Summed over ratios."""
        actor, tokens = self.actor, micro.mask.to(self.device)
        new, mask = self._at_level(now.log_probs, tokens)
        behavior, proximal = (self._at_level(x.to(self.device), tokens)[0] for x in (micro.behavior, micro.proximal))
        clipped, gap = decoupled_clip_loss(
            new,
            proximal,
            behavior,
            self._advantages(micro),
            mask,
            actor.clip_ratio_low,
            actor.clip_ratio_high,
            actor.behavior_weight_cap,
            actor.clip_ratio_c,
        )
        entropy = self._at_level(now.entropy, tokens)[0].sum()
        loss = clipped.loss_sum - actor.entropy_coeff * entropy
        if self.reference is not None:
            sums["kl_loss"] = kl_penalty(new, self._reference_log_probs(micro, tokens), mask, actor.kl_loss_type)
            loss = loss + actor.kl_loss_coef * sums["kl_loss"]
        sums |= {
            "loss": loss,
            "entropy": entropy,
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
        mask = self._action_mask(micro) if self.values_per_chunk > 1 else micro.mask.any(dim=1, keepdim=True)
        mask = mask.to(self.device)
        found = value_loss(now.values, old, returns, mask, self.critic.clip, self.critic.huber_delta)
        error = torch.where(mask, returns - old, 0.0).double()
        target = torch.where(mask, returns, 0.0).double()
        moments = (target.sum(), (target**2).sum(), error.sum(), (error**2).sum())
        sums |= dict(zip(MOMENTS, moments, strict=True))
        sums |= {"value_loss": found.loss_sum, "value_clip_fraction": found.clipped_sum, "values": mask.sum()}
        return found.loss_sum

    @torch.no_grad()
    def _reference_log_probs(self, micro: MicroBatch, tokens: Tensor) -> Tensor:
        assert self.reference is not None
        inputs = self.reference.prepare(micro.obs)
        evaluation = self.reference.evaluate(inputs, micro.tokens.to(self.device), self.temperature)
        return self._at_level(evaluation.log_probs, tokens)[0]

    def _at_level(self, numbers: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return at_level(numbers, tokens, self.level, self.policy.action_dim)

    def _advantages(self, micro: MicroBatch) -> Tensor:
        """One per ratio, float32 [R, M]. A chunk's actions have the same where it has one ratio."""
        advantages = micro.advantages.to(self.device)
        if self.level == "token_level":
            return advantages.repeat_interleave(self.policy.action_dim, dim=1)
        return advantages if self.level == "action_level" else advantages[:, :1]

    def _action_mask(self, micro: MicroBatch) -> Tensor:
        return micro.mask[:, :: self.policy.action_dim]

    def metrics(self, steps: Sequence[dict[str, float]]) -> dict[str, float]:
        """``actor/…`` and ``critic/…`` from the sums of optimizer steps."""
        ratios, values = (sum(step[name] for step in steps) for name in ("ratios", "values"))
        found = {f"actor/{name}": sum(step[name] for step in steps) / ratios for name in self.means}
        if self.value_means:
            found |= {f"actor/{name}": sum(step[name] for step in steps) / values for name in self.value_means}
            moments = np.sum([[step[name] for name in MOMENTS] for step in steps], axis=0)
            found["critic/explained_variance"] = explained_variance(values, *moments)
        return found
