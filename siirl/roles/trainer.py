"""The trainer role: one rank of the policy update (clipped policy gradient, FSDP2 when there are several ranks)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from siirl.config.action_noise import PREFIX as NOISE_PREFIX
from siirl.config.schema import Config
from siirl.config.value_head import BESIDE, PREFIX
from siirl.data.trajectory import Target, Trajectory
from siirl.policies.base import Policy
from siirl.training.batching import Batch, Share, micro_batches, mini_batches
from siirl.training.dcp import MODEL, load_tensors, save_tensors
from siirl.training.fsdp import ALONE, Ranks, shard, whole
from siirl.training.objective import Objective, Units
from siirl.training.offload import Offload

E = TypeVar("E")


class Trainer(Generic[E]):
    """One rank of the update. Every rank is called with the same arguments and trains on its share of the episodes.

    Args:
        policy: the policy to train, float32; its model is sharded in place when there are several ranks. Parameters that
            need no gradient (those under LoRA adapters) stay as they are and are in no checkpoint.
        config: the whole configuration.
        device: where this rank computes.
        ranks: this rank's place among the actors, from `siirl.training.fsdp.init_ranks`.
        shared: whether a rollout acts with this very module; only one actor's can be shared.
        load_reference: loads the frozen policy of the KL penalty, which is sharded like the other; called when that is
            sharded, so that only one is whole at a time. None without.

    Attributes:
        version: optimizer steps taken, the policy's version.
        updates: calls of `update`, skipped steps or not; seeds the shuffling.

    Raises:
        ValueError: the weights are not float32, or parameters shall be offloaded although the rollout shares them.
    """

    def __init__(
        self,
        policy: Policy,
        config: Config,
        device: torch.device,
        ranks: Ranks = ALONE,
        shared: bool = True,
        load_reference: Callable[[], Policy] | None = None,
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
        reference = None if load_reference is None else load_reference()
        if reference is not None:
            shard(reference.model, ranks, device)
        self.objective = Objective(policy, config, device, reference)
        trained = [(name, p) for name, p in policy.model.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in trained]
        noise = [p for name, p in trained if name.startswith(NOISE_PREFIX)]
        self.fixed = [] if config.actor_rollout_ref.model.action_noise.lr else noise
        network = [p for name, p in trained if not name.startswith(BESIDE)]
        head = [p for name, p in trained if name.startswith(PREFIX)]
        self.optimizer = make_optimizer(network, noise, head, config, device)
        self.offload = Offload(self.actor.fsdp_config, policy.model, self.optimizer, device)
        self.version = 0
        self.updates = 0

    def update(
        self,
        episodes: Sequence[E],
        chunks: Sequence[int],
        targets: Sequence[Target],
        fetch: Callable[[Sequence[E]], list[Trajectory]],
    ) -> dict[str, float]:
        """Train on a batch of episodes, `ppo_epochs` times, in mini-batches of one optimizer step each.

        With ``trainer.max_staleness`` > 0 the weights that acted may be older than those of now, so all log-probs are computed
        anew first, and the loss is `decoupled_clip_loss`; without, the recorded ones are those of now.

        Mini-batches count episodes (`ppo_mini_batch_size` × `rollout.n`), not prompts: where a group lost an episode, a
        mini-batch may end within a group. That changes no advantage, since those come with the episodes.

        Args:
            episodes: n handles of trajectories, group by group.
            chunks: policy forwards of each episode, at least 1.
            targets: one per episode.
            fetch: brings the trajectories of some handles here; called for this rank's share of each mini-batch alone.

        Returns:
            The metrics ``actor/…`` and ``critic/…``, the same on every rank; means are per ratio (``algorithm.logprob_type``) or
            value of all steps taken. Those are
            absent when every step was skipped because of a non-finite loss or gradient, and
            ``actor/rollout_train_logprob_diff`` also when the weights of now drew no token of the first mini-batch.
        """
        assert len(episodes) == len(chunks) == len(targets) > 0
        assert min(chunks) > 0
        batch = Batch(episodes, chunks, targets, fetch)
        steps: list[dict[str, float]] = []
        with self.offload.awake():
            if self.config.trainer.max_staleness > 0:
                batch = self._with_proximal(batch)
            for epoch in range(self.actor.ppo_epochs):
                steps += [self._train_on(share) for share in self._shares(batch, epoch)]
        self.updates += 1
        return self._metrics(steps)

    def save(self, folder: Path) -> list[str]:
        """Write model, optimizer and counters into ``folder`` (collective); returns the names of the files that all ranks wrote.
        Raises CheckpointFailed on a full disk."""
        return save_tensors(folder, self._state(), self.ranks.trainers)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote, on any number of ranks (collective). Raises ValueError for another model's."""
        state = self._state()
        load_tensors(folder, state, self.ranks.trainers)
        self.version, self.updates = int(state["version"]), int(state["updates"])

    def _shares(self, batch: Batch[E], epoch: int) -> Iterator[Share]:
        """This rank's part of each mini-batch. Shuffled by counters alone: a resumed run shuffles as an uninterrupted one."""
        size = self.actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n
        seed = (self.config.trainer.seed, self.updates, epoch) if self.actor.shuffle else None
        for picked in mini_batches(len(batch.episodes), size, seed):
            yield batch.share(picked, self.ranks.rank, self.ranks.actors, self.actor.ppo_micro_batch_size_per_gpu)

    @torch.no_grad()
    def _with_proximal(self, batch: Batch[E]) -> Batch[E]:
        """The batch with its log-probs under the weights of now, in the micro-batches of the first epoch."""
        tokens = self.policy.chunk_len * self.policy.action_dim
        found = torch.zeros(sum(batch.chunks), tokens, device=self.device)
        for share in self._shares(batch, epoch=0):
            micros = micro_batches(share, self.actor.ppo_micro_batch_size_per_gpu, self.policy.action_dim)
            log_probs = torch.cat([self.objective.evaluate(micro).log_probs for micro in micros])
            found[share.rows] = log_probs[: len(share.rows)]  # padding is at the end
        # Every row is of one rank, 0 on the others. In a later epoch another rank may train on it.
        return replace(batch, proximal=self._over_ranks(found).cpu().numpy(), version=self.version)

    def _train_on(self, share: Share) -> dict[str, float]:
        """One optimizer step on a mini-batch; returns its sums, the gradient norm, and whether the step was taken."""
        objective = self.objective
        counts = [[objective.ratios_of(t), objective.values_of(t)] for t in share.trajectories] or [[0, 0]]
        units = Units(*self._over_ranks(torch.tensor(counts, device=self.device).sum(dim=0)).tolist())
        assert units.ratios > 0, "no episode of the mini-batch executed an action"
        share = objective.weighted(share, units)
        warming = self.version < self.config.critic.warmup_steps
        sums = torch.zeros(len(objective.names), dtype=torch.float64, device=self.device)
        for micro in micro_batches(share, self.actor.ppo_micro_batch_size_per_gpu, self.policy.action_dim):
            loss, found = objective(micro, units)
            # FSDP averages gradients over ranks, and the loss is a part of the mean over the mini-batch on all of them.
            (loss * self.ranks.actors).backward(inputs=self._value_head() if warming else None)
            self.offload.take_gradients(self.parameters)
            sums += found
        totals = dict(zip(objective.names, self._over_ranks(sums).tolist(), strict=True))
        assert (totals["ratios"], totals.get("values", 0)) == (units.ratios, units.values)
        self.offload.give_gradients()
        for parameter in self.fixed:
            parameter.grad = None  # and so AdamW leaves it alone, and the clipped norm is that of what moves
        norm = float(whole(clip_grad_norm_(self.parameters, self.actor.grad_clip)))
        # These numbers are sums over all ranks, so that all ranks decide alike.
        taken = all(math.isfinite(number) for number in (totals["loss"], totals.get("value_loss", 0.0), norm))
        if taken:
            self._step()
        self.optimizer.zero_grad(set_to_none=True)
        return {**totals, "grad_norm": norm, "taken": float(taken)}

    def _value_head(self) -> list[torch.nn.Parameter]:
        """What learns in warm-up, so that backward passes go no further; between a forward and its backward, whole parameters."""
        return [parameter for name, parameter in self.policy.model.named_parameters() if name.startswith(PREFIX)]

    def _step(self) -> None:
        self.optimizer.param_groups[0]["lr"] = self.learning_rate(self.version)  # the others have rates of their own
        self.optimizer.step()
        self.version += 1

    def learning_rate(self, version: int) -> float:
        """The policy's learning rate in the optimizer step that follows ``version`` steps: 0 while the value head learns alone,
        then linear warm-up, then constant."""
        warmup, steps = self.actor.optim.lr_warmup_steps, version + 1 - self.config.critic.warmup_steps
        return self.actor.optim.lr * min(1.0, max(steps, 0) / max(warmup, 1))

    def _metrics(self, steps: Sequence[dict[str, float]]) -> dict[str, float]:
        taken = [step for step in steps if step["taken"]]
        metrics = {
            "actor/lr": self.learning_rate(max(self.version - 1, 0)),
            "actor/optimizer_steps": float(len(taken)),
            "actor/skipped_steps": float(len(steps) - len(taken)),
        }
        if taken:
            metrics |= self.objective.metrics(taken)
            metrics["actor/grad_norm"] = float(np.mean([step["grad_norm"] for step in taken]))
            # Only the first step tells how far rollout and update disagree; later ones see other weights than acted.
            first = taken[0]
            if first["fresh"]:
                metrics["actor/rollout_train_logprob_diff"] = first["logprob_diff"] / first["fresh"]
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


def make_optimizer(
    network: list[torch.nn.Parameter],
    noise: list[torch.nn.Parameter],
    head: list[torch.nn.Parameter],
    config: Config,
    device: torch.device,
) -> torch.optim.AdamW:
    """AdamW of the network's parameters and, with learning rates of their own, those of the spread of actions and of the value
    head, if there are any. Decay would draw a logarithm to 0, a standard deviation to 1."""
    optim = config.actor_rollout_ref.actor.optim
    groups: list[dict[str, Any]] = [{"params": network}]
    if noise:
        groups.append({"params": noise, "lr": config.actor_rollout_ref.model.action_noise.lr, "weight_decay": 0.0})
    if head:
        groups.append({"params": head, "lr": config.critic.lr})
    optimizer = torch.optim.AdamW(
        groups,
        lr=optim.lr,
        betas=(optim.betas[0], optim.betas[1]),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        fused=True,  # no temporary copy of all parameters
    )
    for parameter in (*network, *noise, *head):
        # AdamW makes its state at a first gradient; made here, checkpoints always hold the same tensors.
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer
