"""The trainer role: one rank of the policy update (clipped policy gradient, FSDP2 when there are several ranks)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from siirl.algorithms.losses import episode_weight, ppo_clip_loss
from siirl.config.schema import Config
from siirl.data.trajectory import Trajectory
from siirl.policies.base import Policy
from siirl.training.batching import MicroBatch, Share, balance, micro_batches, mini_batches
from siirl.training.dcp import MODEL, load_tensors, save_tensors
from siirl.training.fsdp import ALONE, Ranks, shard, whole
from siirl.training.offload import Offload

E = TypeVar("E")

SUMS = ("loss", "entropy", "approx_kl", "clip_fraction", "ratio_mean_abs_dev", "rollout_train_logprob_diff", "tokens")
"""What is summed over tokens, in the order of the vectors that the ranks add up; the last one counts the tokens."""


class Trainer(Generic[E]):
    """One rank of the update. Every rank is called with the same arguments and trains on its share of the episodes.

    Args:
        policy: the policy to train, float32; its model is sharded in place when there are several ranks. Parameters that
            need no gradient (those under LoRA adapters) stay as they are and are in no checkpoint.
        config: the whole configuration.
        device: where this rank computes.
        ranks: this rank's place among the actors, from `siirl.training.fsdp.init_ranks`.
        shared: whether a rollout acts with this very module; only one actor's can be shared.

    Attributes:
        version: optimizer steps taken, the policy's version.
        updates: calls of `update`, skipped steps or not; seeds the shuffling.

    Raises:
        ValueError: the weights are not float32, or parameters shall be offloaded although the rollout shares them.
    """

    def __init__(
        self, policy: Policy, config: Config, device: torch.device, ranks: Ranks = ALONE, shared: bool = True
    ) -> None:
        assert ranks.trains
        self.policy, self.config, self.device, self.ranks = policy, config, device, ranks
        self.actor = config.actor_rollout_ref.actor
        if self.actor.fsdp_config.param_offload and shared and ranks.actors == 1:
            raise ValueError(
                "actor_rollout_ref.actor.fsdp_config.param_offload=true needs several actor ranks, or a rollout on another "
                "slot: else the rollout acts with the very same parameters; set it to false"
            )
        shard(policy.model, ranks, device)
        optim = self.actor.optim
        self.parameters = [p for p in policy.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=optim.lr,
            betas=(optim.betas[0], optim.betas[1]),
            weight_decay=optim.weight_decay,
            fused=True,  # no temporary copy of all parameters
        )
        for parameter in self.parameters:
            # AdamW makes its state at a first gradient; made here, checkpoints always hold the same tensors.
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self.offload = Offload(self.actor.fsdp_config, policy.model, self.optimizer, device)
        self.version = 0
        self.updates = 0

    def update(
        self,
        episodes: Sequence[E],
        chunks: Sequence[int],
        advantages: np.ndarray,
        fetch: Callable[[Sequence[E]], list[Trajectory]],
    ) -> dict[str, float]:
        """Train on a batch of episodes, `ppo_epochs` times, in mini-batches of one optimizer step each.

        Mini-batches count episodes (`ppo_mini_batch_size` × `rollout.n`), not prompts: where a group lost an episode, a
        mini-batch may end within a group. That changes no advantage, since those come with the episodes.

        Args:
            episodes: n handles of trajectories, group by group.
            chunks: policy forwards of each episode, at least 1.
            advantages: one per episode, [n].
            fetch: brings the trajectories of some handles here; called for this rank's share of each mini-batch alone.

        Returns:
            The metrics ``actor/…``, the same on every rank; means are per active token of all steps taken. Those are
            absent when every step was skipped because of a non-finite loss or gradient.
        """
        assert len(episodes) == len(chunks) == len(advantages) > 0
        assert min(chunks) > 0
        size = self.actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n
        steps: list[dict[str, float]] = []
        with self.offload.awake():
            for epoch in range(self.actor.ppo_epochs):
                # Seeded by counters alone: a resumed run shuffles as an uninterrupted one.
                seed = (self.config.trainer.seed, self.updates, epoch) if self.actor.shuffle else None
                for picked in mini_batches(len(episodes), size, seed):
                    share = self._fetch_share(picked, episodes, chunks, advantages, fetch)
                    steps.append(self._train_on(share))
        self.updates += 1
        return self._metrics(steps)

    def save(self, folder: Path) -> None:
        """Write model, optimizer and counters into ``folder`` (collective). Raises CheckpointFailed on a full disk."""
        save_tensors(folder, self._state(), self.ranks.trainers)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote, on any number of ranks (collective). Raises ValueError for another model's."""
        state = self._state()
        load_tensors(folder, state, self.ranks.trainers)
        self.version, self.updates = int(state["version"]), int(state["updates"])

    def _fetch_share(
        self,
        picked: Sequence[int],
        episodes: Sequence[E],
        chunks: Sequence[int],
        advantages: np.ndarray,
        fetch: Callable[[Sequence[E]], list[Trajectory]],
    ) -> Share:
        """Balance the mini-batch's episodes over the ranks by their chunks, and fetch this rank's."""
        loads = [chunks[i] for i in picked]
        shares = balance(loads, self.ranks.actors)
        most = max(sum(loads[i] for i in share) for share in shares)
        own = [picked[i] for i in shares[self.ranks.rank]]
        shortest = min(picked, key=lambda i: chunks[i])
        trajectories = fetch([episodes[i] for i in own or [shortest]])
        return Share(
            trajectories=trajectories if own else [],
            advantages=[float(advantages[i]) for i in own],
            episodes=len(picked),
            spare=trajectories[0],
            micro_batches=math.ceil(most / self.actor.ppo_micro_batch_size_per_gpu),
        )

    def _train_on(self, share: Share) -> dict[str, float]:
        """One optimizer step on a mini-batch; returns its sums, the gradient norm, and whether the step was taken."""
        action_dim = self.policy.action_dim
        tokens = [int(trajectory.executed.sum()) * action_dim for trajectory in share.trajectories]
        active = float(self._over_ranks(torch.tensor(sum(tokens), device=self.device)))
        assert active > 0, "no episode of the mini-batch executed an action"
        mode = self.actor.loss_agg_mode
        weights = [episode_weight(count, active, share.episodes, mode) for count in tokens]
        share = replace(share, advantages=[a * w for a, w in zip(share.advantages, weights, strict=True)])
        sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.device)
        for micro in micro_batches(share, self.actor.ppo_micro_batch_size_per_gpu, action_dim):
            sums += self._backward(micro, active)
        totals = dict(zip(SUMS, self._over_ranks(sums).tolist(), strict=True))
        assert totals["tokens"] == active
        self.offload.give_gradients()
        norm = float(whole(clip_grad_norm_(self.parameters, self.actor.grad_clip)))
        # Both numbers are sums over all ranks, so that all ranks decide alike.
        taken = math.isfinite(totals["loss"]) and math.isfinite(norm)
        if taken:
            self._step()
        self.optimizer.zero_grad(set_to_none=True)
        return {**totals, "grad_norm": norm, "taken": float(taken)}

    def _backward(self, micro: MicroBatch, active: float) -> Tensor:
        """Add a micro-batch's gradient; returns its sums, in the order of `SUMS`."""
        actor, temperature = self.actor, self.config.actor_rollout_ref.rollout.temperature
        inputs = self.policy.prepare(
            micro.obs
        )  # first: the host prepares images while the device still computes the last ones
        mask = micro.mask.to(self.device)
        tokens = micro.tokens.to(self.device)
        now = self.policy.evaluate(inputs, tokens, temperature)
        policy_loss = ppo_clip_loss(
            now.log_probs,
            micro.log_probs.to(self.device),
            micro.advantages.to(self.device),
            mask,
            actor.clip_ratio_low,
            actor.clip_ratio_high,
        )
        entropy = torch.where(mask, now.entropy, 0.0).sum()
        loss = policy_loss.loss_sum - actor.entropy_coeff * entropy
        # A mean over the mini-batch's tokens on all ranks; FSDP averages gradients over ranks, hence × their number.
        (loss * (self.ranks.actors / active)).backward()
        self.offload.take_gradients(self.parameters)
        sums = (
            loss.detach(),
            entropy.detach(),
            policy_loss.kl_sum,
            policy_loss.clipped_sum,
            policy_loss.ratio_deviation_sum,
            policy_loss.log_prob_gap_sum,
            mask.sum(),
        )
        return torch.stack([number.double() for number in sums])

    def _step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.version)
        self.optimizer.step()
        self.version += 1

    def learning_rate(self, version: int) -> float:
        """The learning rate of the optimizer step that follows ``version`` steps: linear warm-up, then constant."""
        warmup = self.actor.optim.lr_warmup_steps
        return self.actor.optim.lr * min(1.0, (version + 1) / max(warmup, 1))

    def _metrics(self, steps: Sequence[dict[str, float]]) -> dict[str, float]:
        taken = [step for step in steps if step["taken"]]
        metrics = {
            "actor/lr": self.learning_rate(max(self.version - 1, 0)),
            "actor/optimizer_steps": float(len(taken)),
            "actor/skipped_steps": float(len(steps) - len(taken)),
        }
        if taken:
            tokens = sum(step["tokens"] for step in taken)
            metrics |= {f"actor/{name}": sum(step[name] for step in taken) / tokens for name in SUMS[:-1]}
            metrics["actor/grad_norm"] = float(np.mean([step["grad_norm"] for step in taken]))
            # Only the first step tells how far rollout and update disagree; later ones see other weights than acted.
            first = taken[0]
            metrics["actor/rollout_train_logprob_diff"] = first["rollout_train_logprob_diff"] / first["tokens"]
        return metrics

    def _over_ranks(self, numbers: Tensor) -> Tensor:
        """The sum over the actors, in place."""
        if self.ranks.trainers is not None:
            dist.all_reduce(numbers, group=self.ranks.trainers)
        return numbers

    def _state(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds, as tensors that `load_tensors` can fill in place: what is trained, and the counters."""
        frozen = {name for name, parameter in self.policy.model.named_parameters() if not parameter.requires_grad}
        tensors = self.policy.model.state_dict().items()
        state = {f"{MODEL}{name}": tensor for name, tensor in tensors if name not in frozen}
        names = {parameter: name for name, parameter in self.policy.model.named_parameters()}
        for parameter in self.parameters:
            moments = self.optimizer.state[parameter]
            state |= {f"optimizer.{names[parameter]}.{key}": tensor for key, tensor in moments.items()}
        return state | {"version": torch.tensor(self.version), "updates": torch.tensor(self.updates)}
