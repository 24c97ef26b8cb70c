"""Workers as Ray actors: placement groups reserve the slots, Ray restarts dead simulators."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from siirl.config.schema import Config
from siirl.dag.compile import Plan
from siirl.data.trajectory import Episode, EpisodeSpec, Trajectory
from siirl.envs.base import ENVS
from siirl.policies.base import Sampling
from siirl.workers.env_worker import FAULT_TOLERANCE, EnvWorker, RayEnvPool
from siirl.workers.node_worker import NodeWorker
from siirl.workers.references import RayFuture, get

RESERVE_SECONDS = 60
"""How long to wait for a slot of a cluster that others use."""

CONCURRENT_CALLS = 4
"""Threads of a node worker: a rollout streams from one while videos are embedded in another."""

SIMULATOR_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
"""A simulator is one thread: more of them would only fight over the cores that the other simulators use."""


class RayNodeWorker(NodeWorker):
    """A node worker whose simulators are actors and whose trajectories lie in the object store."""

    def __init__(self, config: Config, device: str, envs: list[ActorHandle], with_embedding: bool) -> None:
        self._arguments = (config, device, envs, with_embedding)

    def build(self) -> None:
        """Build the roles: not in ``__init__``, whose errors Ray only tells as the death of the actor."""
        config, device, envs, with_embedding = self._arguments
        env = config.actor_rollout_ref.embodied.env
        slots_per_env = env.num_envs // len(envs)
        pool = RayEnvPool(envs, slots_per_env, env.step_timeout)
        super().__init__(config, device, pool, _fetch, with_embedding)


def _fetch(references: Sequence[ray.ObjectRef]) -> list[Trajectory]:
    return ray.get(list(references))


def connect(config: Config) -> None:
    """Join the cluster of ``RAY_ADDRESS`` (``auto``: the one on this machine), or start one on this machine; check that it
    holds the declared slots.

    Raises:
        ValueError: the cluster has fewer accelerators or machines than the config declares.
    """
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS", "local"), include_dashboard=False, configure_logging=False)
    trainer = config.trainer
    alive = [node for node in ray.nodes() if node["Alive"]]
    if len(alive) < trainer.nnodes:
        raise ValueError(
            f"trainer.nnodes={trainer.nnodes}, but the Ray cluster has {len(alive)}: start Ray on the others, or lower it"
        )
    gpus = int(ray.cluster_resources().get("GPU", 0))
    wanted = trainer.nnodes * trainer.n_gpus_per_node
    if gpus < wanted:
        raise ValueError(
            f"trainer.nnodes × trainer.n_gpus_per_node = {wanted} GPUs, but the Ray cluster has {gpus}; "
            "lower trainer.n_gpus_per_node (0 runs on the CPU)"
        )


class RayWorkers:
    """The node worker of the plan's slot and its simulators.

    Raises:
        ValueError: the cluster cannot hold the plan, or a role cannot be built from what the config names.
    """

    def __init__(self, config: Config, plan: Plan) -> None:
        connect(config)
        slot = plan.slots[0]
        self._group = _reserve(gpu=slot.device != "cpu")
        here = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)
        self.envs = self._start_envs(config, here)
        actor = ray.remote(RayNodeWorker).options(
            num_cpus=1, num_gpus=int(slot.device != "cpu"), max_concurrency=CONCURRENT_CALLS, scheduling_strategy=here
        )
        # Ray shows a worker only its own accelerators, so that the first one it sees is the slot's
        device = "cpu" if slot.device == "cpu" else "cuda:0"
        worker: Any = actor
        self._worker = worker.remote(config, device, self.envs, "embedding" in plan.placement)
        try:
            get(self._worker.build.remote())
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _start_envs(config: Config, here: PlacementGroupSchedulingStrategy) -> list[Any]:
        env = config.actor_rollout_ref.embodied.env
        per_process = min(env.num_envs, ENVS.get(env.env_type).max_slots_per_process)
        options = ray.remote(EnvWorker).options(
            num_cpus=0,
            scheduling_strategy=here,
            runtime_env={"env_vars": SIMULATOR_ENVIRONMENT},
            **FAULT_TOLERANCE,
        )
        return [options.remote(config) for _ in range(env.num_envs // per_process)]

    def rollout(self, specs: Sequence[EpisodeSpec], sampling: Sampling, *, keep: bool) -> Iterator[Episode]:
        """See `Workers.rollout`."""
        stream: Iterator[ray.ObjectRef] = self._worker.run.options(num_returns="streaming").remote(
            list(specs), sampling, keep
        )
        for reference in stream:
            summary = get(reference)
            yield Episode(summary, next(stream) if keep else None)

    def submit(self, operation: str, *args: Any) -> RayFuture:
        """See `Workers.submit`."""
        return RayFuture(getattr(self._worker, operation).remote(*args))

    def close(self) -> None:
        """Kill the actors and give the slots back."""
        for actor in (self._worker, *self.envs):
            ray.kill(actor)
        remove_placement_group(self._group)


def _reserve(gpu: bool) -> PlacementGroup:
    """Reserve a slot. Raises ValueError when the cluster has none that is free."""
    needed = {"CPU": 1.0} | ({"GPU": 1.0} if gpu else {})
    group = placement_group([needed], strategy="PACK")
    if group.wait(RESERVE_SECONDS):
        return group
    remove_placement_group(group)
    resources = ray.cluster_resources(), ray.available_resources()
    there, free = ({name: of.get(name, 0.0) for name in needed} for of in resources)
    raise ValueError(
        f"a slot needs {needed} on one machine, but of the Ray cluster's {there} only {free} are free, {RESERVE_SECONDS} s "
        "long; end what runs there, or start Ray with more (ray start --num-cpus, --num-gpus)"
    )
