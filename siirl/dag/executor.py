"""Runs a plan's nodes: episodes stream in, complete groups flow through the group nodes, batches through the rest."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from siirl.config.schema import Config
from siirl.dag.batch import Batch
from siirl.dag.columns import add_columns, target_of
from siirl.dag.compile import Plan
from siirl.dag.graph import Node, NodeOutput
from siirl.data.manifest import Prompt
from siirl.data.sampler import Sampler, episode_specs
from siirl.data.trajectory import CANCELLED, Episode, EpisodeSpec, EpisodeSummary, Group
from siirl.observe.video.shelf import Shelves
from siirl.policies.base import Sampling
from siirl.roles.queue import Task, task_of
from siirl.workers.base import Future, Workers

GROUP_MINIMUM = 2
"""Episodes that a group needs: the advantage of one alone has nothing to be relative to. (Unless ``rollout.n`` is 1.)"""

LENGTH_LEARNING_RATE = 0.2
"""Weight of an episode in the moving average of its task's lengths, by which the next ones are ordered."""


@dataclass(eq=False)
class _Waiting:
    """A group whose next node's result is still computed by a worker."""

    group: Group
    node: Node
    future: Future
    rest: tuple[Node, ...]


@dataclass
class _Flow:
    """Where the complete groups of a generation batch are.

    Attributes:
        step: the training step.
        wanted: groups that are still needed.
        cancelled: whether the rest of the rollout was.
    """

    batch: Batch
    step: int
    wanted: int
    cancelled: bool = False
    waiting: list[_Waiting] = field(default_factory=list)
    kept: list[Group] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        """Whether as many groups as needed passed the filters; an embedding, which some may still wait for, drops none."""
        sure = [held for held in self.waiting if not any(callable(node.op) for node in (held.node, *held.rest))]
        return len(self.kept) + len(sure) >= self.wanted


class Executor:
    """Runs the nodes of a plan on its workers.

    Args:
        plan: what to run.
        config: the run's config.
        workers: who runs it.
        on_episode: called for each finished episode (the progress display).

    Attributes:
        videos: of the episodes; closed by the one who made the executor, while there are workers.
    """

    def __init__(
        self, plan: Plan, config: Config, workers: Workers, on_episode: Callable[[EpisodeSummary], None]
    ) -> None:
        self.plan = plan
        self.config = config
        self.workers = workers
        self.on_episode = on_episode
        self._lengths: dict[Task, float] = {}
        self.videos = Shelves(config)

    def collect(self, sampler: Sampler, step: int, on_start: Callable[[int], None]) -> Batch:
        """Roll out generation batches until ``data.train_batch_size`` groups survived, or the allowed number of batches.

        What a batch has too many, by `oversample_factor`, is cancelled as soon as enough groups survived; but not with
        `trainer.deterministic`, since which groups these are is a matter of timing.

        ``on_start`` is told the number of episodes of each generation batch, and 0 after the last.
        """
        algorithm, wanted = self.config.algorithm, self.config.data.train_batch_size
        size = math.ceil(wanted * algorithm.embodied_sampling.oversample_factor)
        batch = Batch()
        kept: list[Group] = []
        for generation in range(algorithm.filter_groups.max_num_gen_batches):
            specs = self._specs(sampler.next_batch(size), step, first_group=generation * size)
            on_start(len(specs))
            kept += self._run_groups(specs, _Flow(batch, step, wanted - len(kept)))
            batch.gen_batches += 1
            if len(kept) >= wanted:
                break
        on_start(0)
        batch.sampler = sampler.state_dict()
        kept.sort(key=lambda group: group.episodes[0].summary.spec.group_id)
        batch.passed = {group.episodes[0].summary.spec.group_id for group in kept}
        batch.episodes = [episode for group in kept[:wanted] for episode in group.episodes]
        batch.surplus += sum(len(group.episodes) for group in kept[wanted:])
        batch.summaries = self.videos["train"].keep(step, batch.summaries, self.workers.videos)
        return batch

    def run_batch_node(self, node: Node, episodes: list[Episode]) -> dict[str, float]:
        """Run one ``per="batch"`` node; returns its metrics.

        Raises:
            ValueError: the node tries to drop the batch.
        """
        if node.role == "actor":
            references = [e.trajectory for e in episodes]
            chunks = [e.summary.chunks for e in episodes]
            targets = [target_of(e) for e in episodes]
            return self.workers.submit(str(node.op), references, chunks, targets).result()
        output = self._call(node, episodes) if node.role == "driver" else self._submit(node, episodes).result()
        if not output.keep:
            raise ValueError(
                f"node {node.name!r} works per='batch' and returned keep=False ({output.reason}); only a per='group' node "
                "can drop episodes: let it work per group, or return columns alone"
            )
        add_columns(episodes, output.columns)
        return {}

    def evaluate(
        self, specs: Sequence[EpisodeSpec], on_start: Callable[[int], None], step: int = 0
    ) -> list[EpisodeSummary]:
        """Run validation episodes, ``data.val_batch_size`` queued at once; trajectories are not kept. The step names the
        videos."""
        sampling = Sampling.of(self.config.actor_rollout_ref.rollout.val_kwargs)
        size = self.config.data.val_batch_size
        summaries: list[EpisodeSummary] = []
        reel = self.videos["val"].reel(step)
        on_start(len(specs))
        for start in range(0, len(specs), size):
            part = specs[start : start + size]
            for episode in self.workers.rollout(
                part, sampling, keep=False, after=0, expected_steps=self._lengths, reel=reel
            ):
                self.on_episode(episode.summary)
                summaries.append(episode.summary)
        return self.videos["val"].keep(step, summaries, self.workers.videos)

    def _specs(self, prompts: Sequence[Prompt], step: int, first_group: int) -> list[EpisodeSpec]:
        n, seed = self.config.actor_rollout_ref.rollout.n, self.config.trainer.seed
        return episode_specs(prompts, n=n, seed=seed, step=step, first_group=first_group)

    def _run_groups(self, specs: list[EpisodeSpec], flow: _Flow) -> list[Group]:
        """Roll out ``specs``; a group meets the group nodes as soon as it is complete, while the rollout goes on."""
        left = len(specs) // self.config.actor_rollout_ref.rollout.n
        for group in self._complete_groups(specs, flow):
            left -= 1
            flow.batch.groups += 1
            self._advance(group, self.plan.group_nodes, flow)
            for held in [w for w in flow.waiting if w.future.done()]:
                self._resume(held, flow)
            if left and flow.enough and not (flow.cancelled or self.config.trainer.deterministic):
                flow.cancelled = True
                self.workers.cancel()
        while flow.waiting:
            self._resume(flow.waiting[0], flow)
        return flow.kept

    def _complete_groups(self, specs: list[EpisodeSpec], flow: _Flow) -> Iterator[Group]:
        rollout, staleness = self.config.actor_rollout_ref.rollout, self.config.trainer.max_staleness
        partial: dict[int, list[Episode]] = defaultdict(list)
        after = flow.step - 1 - staleness
        sampling, reel = Sampling.of(rollout), self.videos["train"].reel(flow.step)
        for episode in self.workers.rollout(
            specs, sampling, keep=True, after=after, expected_steps=dict(self._lengths), reel=reel
        ):
            summary = episode.summary
            if summary.drop_reason == CANCELLED:
                flow.batch.cancelled.append(summary)
                continue
            self.on_episode(summary)
            self._learn_length(summary)
            flow.batch.summaries.append(summary)
            members = partial[summary.spec.group_id]
            members.append(episode)
            if len(members) == rollout.n:
                members = partial.pop(summary.spec.group_id)
                valid = [e for e in members if e.summary.drop_reason is None]
                yield Group(sorted(valid, key=lambda e: e.summary.spec.index))
        flow.batch.surplus += sum(map(len, partial.values()))
        assert flow.cancelled or not partial, f"the rollout ended with incomplete groups {sorted(partial)}"

    def _learn_length(self, summary: EpisodeSummary) -> None:
        """Remember how long the task's episodes take, the recent ones most."""
        task = task_of(summary.spec)
        known = self._lengths.get(task, float(summary.steps))
        self._lengths[task] = known + LENGTH_LEARNING_RATE * (summary.steps - known)

    def _advance(self, group: Group, nodes: tuple[Node, ...], flow: _Flow) -> None:
        """Take a group through ``nodes`` until it is dropped, kept, or has to wait for a worker."""
        if len(group.episodes) < min(GROUP_MINIMUM, self.config.actor_rollout_ref.rollout.n):
            flow.batch.dropped["too_few_episodes"] += 1
            return
        oldest = min(e.summary.weights_step for e in group.episodes)
        if flow.step - 1 - oldest > self.config.trainer.max_staleness:
            flow.batch.dropped["stale"] += 1
            return
        for i, node in enumerate(nodes):
            if node.role != "driver":
                flow.waiting.append(_Waiting(group, node, self._submit(node, group.episodes), nodes[i + 1 :]))
                return
            if not _accept(group, self._call(node, group.episodes), flow):
                return
        flow.kept.append(group)

    def _call(self, node: Node, episodes: Sequence[Episode]) -> NodeOutput:
        assert callable(node.op)
        return node.op(episodes, self.config)

    def _submit(self, node: Node, episodes: Sequence[Episode]) -> Future:
        """Let a worker call the node's function, which sees no trajectories, or embed."""
        if callable(node.op):
            return self.workers.submit("call", node.op, [replace(e, trajectory=None) for e in episodes])
        return self.workers.submit(node.op, [e.trajectory for e in episodes])

    def _resume(self, held: _Waiting, flow: _Flow) -> None:
        """Take a group on with what the worker computed; episodes without a finite embedding leave it."""
        result, column, group = held.future.result(), held.node.column, held.group
        flow.waiting.remove(held)
        if callable(held.node.op):
            if _accept(group, result, flow):
                self._advance(group, held.rest, flow)
            return
        assert column is not None
        add_columns(group.episodes, {column: result})
        for episode in group.episodes:
            if episode.columns[column] is None:
                dropped = replace(episode.summary, drop_reason=f"nan_{column}")
                flow.batch.summaries[flow.batch.summaries.index(episode.summary)] = dropped
        self._advance(Group([e for e in group.episodes if e.columns[column] is not None]), held.rest, flow)


def _accept(group: Group, output: NodeOutput, flow: _Flow) -> bool:
    """Give a group the columns that a function returned, unless the function drops it."""
    if not output.keep:
        flow.batch.dropped[output.reason] += 1
        return False
    add_columns(group.episodes, output.columns)
    return True
