"""Simulators as Ray actors, one process each, and the pool through which a rollout role drives them."""

import os
import time
from collections.abc import Sequence
from ctypes.util import find_library
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.actor import ActorHandle

from siirl.config.environments import environments
from siirl.config.schema import Config
from siirl.dag.compile import Process
from siirl.envs.base import ENVS, EnvObs, StepResult
from siirl.observe.timeline import Clock, Span
from siirl.roles.slots import Died, Ready
from siirl.workers.base import WorkerLostError
from siirl.workers.pool import Requests, SlotMap
from siirl.workers.references import GONE, get

FAULT_TOLERANCE: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1}
"""Options of an `EnvWorker` actor. The retries let a call wait for a process that is still restarting, where Ray would else
refuse it at once; the calls themselves ask for no repetition, because the episode that a dead process held is lost."""

DEATH_SECONDS = 30.0
"""How long after a kill a call may take to fail; where the machine is gone it never does."""


class EnvWorker:
    """One env in its own process.

    Args:
        config: the run's config.
        device: torch device of the slot where it lives, numbered on its machine.
        process: what it holds.
    """

    def __init__(self, config: Config, device: str, process: Process) -> None:
        env = replace(environments(config)[process.env], num_envs=process.slots)
        if device != "cpu" and find_library("EGL_nvidia"):  # other drivers may not offer each accelerator to EGL
            os.environ.setdefault("MUJOCO_EGL_DEVICE_ID", visible_gpu(device))
        if device != "cpu" and env.sim_backend == "gpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpu(device)  # it reserves none in Ray, and so sees all of them
        self._env = ENVS.get(env.env_type)(env, wrist=config.actor_rollout_ref.embodied.num_images_in_input > 1)
        assert self._env.num_slots == process.slots, "as many as it was told to, up to max_slots_per_process"

    def reset(self, slots: list[int], specs: list[Any]) -> tuple[EnvObs, Span]:
        """See `Env.reset`; and when that was."""
        start = time.monotonic()
        return self._env.reset(slots, specs), Span(start, time.monotonic(), Clock.here())

    def step(self, slots: list[int], actions: Any) -> tuple[StepResult, Span]:
        """See `Env.step`; and when that was."""
        start = time.monotonic()
        return self._env.step(slots, actions), Span(start, time.monotonic(), Clock.here())

    def rest(self) -> None:
        """See `Env.rest`."""
        self._env.rest()

    def pid(self) -> int:
        """The number of this process on its machine."""
        return os.getpid()


def visible_gpu(device: str) -> str:
    """The name of the accelerator ``device`` (``cuda:1``: the second one that may be seen) on its machine, also to EGL: NVIDIA's
    driver keeps the order."""
    kind, _, number = device.partition(":")
    assert kind == "cuda", f"no simulator runs on {device}"
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[int(number)] if visible else number


@dataclass(frozen=True)
class Call:
    """A request that an env is working on; ``killed`` once the env missed the deadline, which then is that of its death."""

    env: int
    slots: list[int]
    deadline: float
    killed: bool = False


class RayEnvPool(SlotMap):
    """Simulator slots in Ray actors that restart when they die.

    Args:
        actors: handles of `EnvWorker` actors with `FAULT_TOLERANCE`.
        processes: what each of them holds.
        timeout: longest time one call may take, seconds; then the simulator is killed, which restarts it.
    """

    def __init__(self, actors: list[ActorHandle], processes: Sequence[Process], timeout: float) -> None:
        super().__init__(processes)
        self._actors = actors
        self._timeout = timeout
        self._calls: dict[ray.ObjectRef, Call] = {}

    def rest(self) -> None:
        """See `EnvPool.rest`. Nobody waits for that: an env does one thing after the other, and a new process rests anyway."""
        for actor in self._actors:
            actor.rest.options(max_task_retries=0).remote()

    def wait(self, block: bool) -> list[Ready | Died]:
        """See `EnvPool.wait`."""
        self._launch(block)
        assert self._calls or not block, "nothing was asked for, so nothing can be waited for"
        if not self._calls:
            return []
        while True:
            self._kill_late()
            done, _ = ray.wait(list(self._calls), num_returns=1, timeout=self._patience() if block else 0)
            if done or not block:
                break
        done, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return [event for ref in done for event in self._collect(ref)]

    def _launch(self, block: bool) -> None:
        busy = {call.env for call in self._calls.values()}
        for env in range(len(self.requests)):
            if env in busy or (call := self.next_call(env, block)) is None:
                continue
            method, slots, argument = call
            remote = getattr(self._actors[env], method).options(max_task_retries=0)
            self._calls[remote.remote(slots, argument)] = Call(env, slots, time.monotonic() + self._timeout)

    def _patience(self) -> float:
        """Seconds until a call is late."""
        return max(0.0, min(call.deadline for call in self._calls.values()) - time.monotonic())

    def _kill_late(self) -> None:
        """Kill envs that missed a deadline. Their calls then fail: only a call after that reaches the new process.

        Raises:
            WorkerLostError: an env's call did not even fail: Ray cannot start the process again where it lives.
        """
        now = time.monotonic()
        for ref, call in self._calls.items():
            if call.deadline > now:
                continue
            if call.killed:
                raise WorkerLostError(
                    f"{GONE}: a simulator does not come back within {DEATH_SECONDS:g} s after it was killed"
                )
            ray.kill(self._actors[call.env], no_restart=False)
            self._calls[ref] = replace(call, deadline=now + DEATH_SECONDS, killed=True)

    def _collect(self, ref: ray.ObjectRef) -> list[Ready | Died]:
        call = self._calls.pop(ref)
        try:
            result, span = get(ref)
            return list(self.split(call.env, call.slots, result, span.on(Clock.here())))
        except WorkerLostError as error:
            late = f"no answer within actor_rollout_ref.embodied.env.step_timeout={self._timeout:g} s"
            return self._died(call, late if call.killed else str(error.__cause__))

    def _died(self, call: Call, cause: str) -> list[Ready | Died]:
        """A dead env loses the episodes of all its slots, not only of those in the call."""
        self.requests[call.env] = Requests()
        return [Died(slot, cause) for slot in self.slots_of(call.env)]
