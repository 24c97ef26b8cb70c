"""Workers as Ray actors: placement groups reserve the slots, Ray restarts dead simulators."""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.util.placement_group import remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from siirl.config.schema import Config
from siirl.dag.compile import Plan, Process, Slot
from siirl.data.trajectory import Episode, EpisodeSpec
from siirl.observe.timeline import MOST_WORKERS, Recording
from siirl.observe.video.choice import Reel
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeQueue, EpisodeSource, ExpectedSteps
from siirl.training.fsdp import ALONE, init_ranks
from siirl.workers.base import WorkerLostError
from siirl.workers.cluster import connect, reserve
from siirl.workers.env_worker import FAULT_TOLERANCE, EnvWorker, RayEnvPool
from siirl.workers.network import Meeting, interface_of, open_store
from siirl.workers.node_worker import NodeWorker, Store
from siirl.workers.references import GONE, RayFuture, get, get_all
from siirl.workers.seats import Seat, seats
from siirl.workers.shared_queue import QueueHost, SharedQueue

CONCURRENT_CALLS = 4
"""Threads of a node worker: a rollout streams from one while others update, exchange weights or cancel it."""

EMBEDDING = {"embed": 1, "call": 1}
"""What those who embed are asked, each with a thread of its own: what waits there must not keep a cancel waiting, nor one the
other."""

SIMULATOR_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
"""A simulator is one thread: more of them would only fight over the cores that the other simulators use."""

VIDEOS = {"videos": 1}
"""A thread of its own for who waits for videos."""

UNREAD = 64
"""Results of a rollout that may wait for the driver; then the worker waits too, so that the object store stays bounded."""


class RayNodeWorker(NodeWorker):
    """A node worker whose simulators are actors and whose trajectories lie in the object store."""

    def __init__(self, config: Config, seat: Seat, envs: list[ActorHandle]) -> None:
        self._arguments = (config, seat, envs)
        self._ranks_store: Any = None

    def open_store(self) -> Meeting:
        """Where the other workers will meet this one."""
        self._ranks_store, meeting = open_store(ray.util.get_node_ip_address())
        return meeting

    def build(self, meeting: Meeting | None) -> None:
        """Build the roles: not in ``__init__``, whose errors Ray only tells as the death of the actor.

        Args:
            meeting: what `open_store` of the first worker returned; None where there is one alone.
        """
        config, seat, envs = self._arguments
        # Ray shows a worker only its own accelerators, so that the first one it sees is the slot's
        device = "cpu" if seat.slot.device == "cpu" else "cuda:0"
        ranks = ALONE
        if meeting is not None and seat.rank is not None:
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                if variable not in os.environ:
                    os.environ[variable] = interface_of(ray.util.get_node_ip_address())
            store = self._ranks_store or meeting.join()
            ranks = init_ranks(seat.rank, seat.world, seat.actors, store, torch.device(device))
        pool = None
        if envs:
            timeout = config.actor_rollout_ref.embodied.env.step_timeout
            pool = RayEnvPool(envs, [process for _, process in seat.envs], timeout)
        super().__init__(config, seat, device, pool, Store(ray.put, lambda handles: ray.get(list(handles))), ranks)


def stream_episodes(
    nodes: Sequence[Any],
    queue: EpisodeSource,
    sampling: Sampling,
    keep: bool,
    after: int,
    reel: Reel | None = None,
) -> Iterator[Episode]:
    """Let every node worker run episodes of ``queue``; each episode is yielded as it ends, its trajectory as a reference."""
    how = {"num_returns": "streaming", "_generator_backpressure_num_objects": UNREAD}
    streams: list[Any] = [node.run.options(**how).remote(queue, sampling, keep, after, reel) for node in nodes]
    while streams:
        ready, _ = ray.wait(streams, num_returns=1, fetch_local=False)
        stream: Any = ready[0]
        try:
            summary = get(next(stream))
        except StopIteration:
            # a worker that was lost while it sent a trajectory has sent its error in the place of that
            get(stream.completed())
            streams.remove(stream)
            continue
        trajectory = next(stream, None) if keep else None
        if keep and trajectory is None:
            raise WorkerLostError(f"{GONE}: a rollout ended in the middle of an episode's result")
        yield Episode(summary, trajectory)


class RayWorkers:
    """The node workers of a plan and their simulators.

    Raises:
        ValueError: the cluster cannot hold the plan, or a role cannot be built from what the config names.
    """

    in_background = True

    def __init__(self, config: Config, plan: Plan) -> None:
        connect(config, plan)
        self._group = reserve(plan)
        self._bundles = {slot.index: bundle for bundle, slot in enumerate(plan.used_slots)}
        self.envs: list[Any] = []
        self.nodes: list[Any] = []
        self._queue_host: Any = None
        try:
            self._start(config, plan)
        except BaseException:
            self.close()
            raise

    def _start(self, config: Config, plan: Plan) -> None:
        self._seats = seats(plan)
        self.nodes = [self._start_node(config, seat) for seat in self._seats]
        self._actors = self._with("actor")
        self._rollouts = self._with("rollout")
        self._embedders = itertools.cycle(self._with("embedding"))
        if len(self._rollouts) > 1:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._queue_host = ray.remote(QueueHost).options(num_cpus=0, scheduling_strategy=here).remote()
        meeting = get(self.nodes[0].open_store.remote()) if self._seats[0].world > 1 else None
        get_all([node.build.remote(meeting) for node in self.nodes])

    def _with(self, role: str) -> list[Any]:
        return [node for node, seat in zip(self.nodes, self._seats, strict=True) if role in seat.roles]

    def _start_node(self, config: Config, seat: Seat) -> Any:
        envs = [self._start_env(config, slot, process) for slot, process in seat.envs]
        self.envs += envs
        # Ray's stubs do not know of the groups
        actor: Any = ray.remote(concurrency_groups=EMBEDDING | VIDEOS)  # type: ignore[call-overload]
        worker: Any = actor(RayNodeWorker).options(
            num_cpus=1,
            num_gpus=int(seat.slot.device != "cpu"),
            max_concurrency=CONCURRENT_CALLS,
            scheduling_strategy=self._on(seat.slot.index),
        )
        return worker.remote(config, seat, envs)

    def _start_env(self, config: Config, slot: Slot, process: Process) -> Any:
        options = ray.remote(EnvWorker).options(
            num_cpus=0,
            scheduling_strategy=self._on(slot.index),
            runtime_env={"env_vars": SIMULATOR_ENVIRONMENT},
            **FAULT_TOLERANCE,
        )
        return options.remote(config, slot.device, process)

    def _on(self, slot: int) -> PlacementGroupSchedulingStrategy:
        return PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=self._bundles[slot])

    def rollout(
        self,
        specs: Sequence[EpisodeSpec],
        sampling: Sampling,
        *,
        keep: bool,
        after: int,
        expected_steps: ExpectedSteps,
        reel: Reel | None = None,
    ) -> Iterator[Episode]:
        """See `Workers.rollout`."""
        queue: EpisodeSource = EpisodeQueue(specs, expected_steps)
        if self._queue_host is not None:
            get(self._queue_host.fill.remote(list(specs), dict(expected_steps)))
            queue = SharedQueue(self._queue_host)
        return stream_episodes(self._rollouts, queue, sampling, keep, after, reel)

    def videos(self, reel: Reel, specs: Sequence[EpisodeSpec]) -> list[RayFuture]:
        """See `Workers.videos`."""
        how = {"concurrency_group": "videos"}
        return [RayFuture((node.videos.options(**how).remote(reel, list(specs)),)) for node in self._rollouts]

    def cancel(self) -> None:
        """See `Workers.cancel`."""
        if self._queue_host is not None:
            get(self._queue_host.clear.remote())  # for a worker whose part of the rollout has not begun yet
        get_all([node.cancel.remote() for node in self._rollouts])

    def submit(self, operation: str, *args: Any) -> RayFuture:
        """See `Workers.submit`."""
        if operation in EMBEDDING:
            method = getattr(next(self._embedders), operation).options(concurrency_group=operation)
            return RayFuture((method.remote(*args),))
        return RayFuture(tuple(getattr(node, operation).remote(*args) for node in self._actors))

    def sync(self, step: int) -> dict[str, float]:
        """See `Workers.sync`."""
        members = [n for n, seat in zip(self.nodes, self._seats, strict=True) if seat.roles & {"actor", "rollout"}]
        return get_all([node.sync.remote(step) for node in members])[0]

    def recordings(self, seconds: float) -> list[Recording]:
        """See `Workers.recordings`."""
        return get_all([node.recording.remote(seconds) for node in self.nodes[:MOST_WORKERS]])

    def stats(self) -> list[dict[str, float]]:
        """`NodeWorker.stats` of every worker that rolls out."""
        return get_all([node.stats.remote() for node in self._rollouts])

    def close(self) -> None:
        """Kill the actors and give the slots back."""
        for actor in (*self.nodes, *self.envs, self._queue_host):
            if actor is not None:
                ray.kill(actor)
        remove_placement_group(self._group)
