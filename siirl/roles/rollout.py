"""The rollout role: waiting episodes flow through simulator slots, and the policy acts on whatever is ready.

Two promises hold by construction: a slot is never idle while episodes are waiting, and neither a simulator nor a
policy step is spent on a finished episode.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Trajectory
from siirl.envs.base import EnvObs, StepResult
from siirl.policies.base import Policy, Sampling, stack_observations

MAX_RETRIES = 3
"""Times that an episode is started again because its simulator died, before the run ends with the simulator's error."""


@dataclass(frozen=True)
class Ready:
    """A slot has something new: its first observation (after a reset), or the result of a step, one row each."""

    slot: int
    result: EnvObs | StepResult


@dataclass(frozen=True)
class Died:
    """A slot's simulator is gone (and is being replaced); the episode that ran in it is lost."""

    slot: int
    cause: str


class EnvPool(Protocol):
    """Simulator slots that work in the background. Each slot has at most one request under way."""

    num_slots: int

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        """Ask for a new episode."""
        ...

    def step(self, slot: int, actions: np.ndarray) -> None:
        """Ask for a chunk of actions, float32 [N, D], to be executed."""
        ...

    def wait(self, block: bool) -> Sequence[Ready | Died]:
        """Every answer at hand; with ``block``, wait until there is at least one."""
        ...


class EpisodeQueue:
    """Waiting episodes. A slot gets one of the task it already holds, if any: switching tasks costs seconds."""

    def __init__(self, specs: Iterable[EpisodeSpec]) -> None:
        self._waiting = deque(specs)

    def take(self, held: tuple[str, int] | None) -> EpisodeSpec | None:
        """The next episode for a slot whose simulator holds the (suite, task_id) ``held``; None when nothing waits."""
        if not self._waiting:
            return None
        for i, spec in enumerate(self._waiting):
            if (spec.suite, spec.task_id) == held:
                del self._waiting[i]
                return spec
        return self._waiting.popleft()

    def put_back(self, spec: EpisodeSpec) -> None:
        """Return an episode whose simulator died, to be run next."""
        self._waiting.appendleft(spec)


@dataclass
class RunningEpisode:
    """What is known so far of an episode in a slot."""

    spec: EpisodeSpec
    started: float
    images: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    log_probs: list[np.ndarray] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)

    def observe(self, obs: EnvObs) -> None:
        """Append a one-row observation."""
        views = [obs.main_images] if obs.wrist_images is None else [obs.main_images, obs.wrist_images]
        self.images.append(np.concatenate(views))
        self.states.append(obs.states[0])

    def action_seed(self) -> int:
        """A seed for the next chunk that depends on the episode and the chunk's index alone."""
        return int(
            np.random.SeedSequence([self.spec.action_seed, len(self.tokens)]).generate_state(1, np.uint64)[0] >> 1
        )

    def finish(self, success: bool, version: int, retries: int, drop_reason: str | None) -> Trajectory:
        """The finished episode's trajectory."""
        steps = sum(self.executed)
        summary = EpisodeSummary(
            spec=self.spec,
            success=success,
            steps=steps,
            chunks=len(self.executed),
            truncated=not success and steps >= self.spec.max_steps,
            policy_version=version,
            drop_reason=drop_reason,
            retries=retries,
            seconds=time.monotonic() - self.started,
        )
        chunks = len(self.executed)
        return Trajectory(
            summary=summary,
            images=np.stack(self.images),
            states=np.stack(self.states),
            tokens=np.stack(self.tokens[:chunks]) if chunks else np.zeros((0, 0), np.int16),
            log_probs=np.stack(self.log_probs[:chunks]) if chunks else np.zeros((0, 0), np.float32),
            executed=np.asarray(self.executed, np.int16),
        )


@dataclass
class _Run:
    """The state of one call of `Rollout.run`."""

    queue: EpisodeQueue
    sampling: Sampling
    version: int
    running: dict[int, RunningEpisode] = field(default_factory=dict)
    ready: deque[int] = field(default_factory=deque)
    retries: Counter[EpisodeSpec] = field(default_factory=Counter)

    def finish(self, slot: int, success: bool, drop_reason: str | None = None) -> Trajectory:
        """End the episode in ``slot``."""
        episode = self.running.pop(slot)
        return episode.finish(success, self.version, self.retries[episode.spec], drop_reason)


class Rollout:
    """Runs episodes with a policy in a pool of simulator slots.

    Args:
        policy: acts on batches of observations.
        pool: the simulator slots.
        pipeline_stage_num: policy batches that the slots are split into: at most slots / stages rows each.
        deterministic: act on one row at a time, so that numerics cannot depend on which rows are ready together.
    """

    def __init__(self, policy: Policy, pool: EnvPool, pipeline_stage_num: int = 1, deterministic: bool = False) -> None:
        self.policy = policy
        self.pool = pool
        self.max_batch = 1 if deterministic else math.ceil(pool.num_slots / pipeline_stage_num)
        self.seconds_acting = 0.0
        self._held: dict[int, tuple[str, int]] = {}

    def run(self, specs: Sequence[EpisodeSpec], sampling: Sampling, version: int) -> Iterator[Trajectory]:
        """Run every episode once; yields each trajectory as soon as its episode ends, in order of completion.

        The seeds of ``sampling`` are not looked at: an episode brings its own.

        Raises:
            RuntimeError: the simulator of one episode died more than `MAX_RETRIES` times.
        """
        run = _Run(EpisodeQueue(specs), sampling, version)
        for slot in range(self.pool.num_slots):
            self._start_next(run, slot)
        while run.running:
            for event in self.pool.wait(block=not run.ready):
                if isinstance(event, Died):
                    self._restart(run, event)
                elif trajectory := self._observe(run, event):
                    self._start_next(run, event.slot)
                    yield trajectory
            if run.ready:
                yield from self._act(run)

    def _start_next(self, run: _Run, slot: int) -> None:
        """Hand the next waiting episode, if any, to a free slot."""
        spec = run.queue.take(self._held.get(slot))
        if spec is not None:
            self._held[slot] = (spec.suite, spec.task_id)
            run.running[slot] = RunningEpisode(spec, time.monotonic())
            self.pool.reset(slot, spec)

    def _restart(self, run: _Run, event: Died) -> None:
        """Run the lost episode, if there was one in the slot, again from its spec."""
        self._held.pop(event.slot, None)
        if event.slot not in run.running:
            return
        if event.slot in run.ready:
            run.ready.remove(event.slot)
        spec = run.running.pop(event.slot).spec
        run.retries[spec] += 1
        if run.retries[spec] > MAX_RETRIES:
            times = run.retries[spec]
            raise RuntimeError(f"the simulator of {spec.prompt_id} died {times} times; the last time: {event.cause}")
        run.queue.put_back(spec)
        self._start_next(run, event.slot)

    @staticmethod
    def _observe(run: _Run, event: Ready) -> Trajectory | None:
        """Record what a slot returned; the trajectory if that ended the episode, else the slot becomes ready."""
        episode, result = run.running[event.slot], event.result
        obs = result if isinstance(result, EnvObs) else result.obs
        episode.observe(obs)
        success = ended = False
        reason = None if np.isfinite(obs.states).all() else "nan_observation"
        if isinstance(result, StepResult):
            episode.executed.append(int(result.executed[0]))
            success = bool(result.success[0])
            ended = success or bool(result.terminated[0]) or bool(result.truncated[0])
            if not np.isfinite(result.rewards).all():
                reason = "nan_reward"
        if ended or reason:
            return run.finish(event.slot, success and reason is None, reason)
        run.ready.append(event.slot)
        return None

    def _act(self, run: _Run) -> Iterator[Trajectory]:
        """Let the policy act on up to `max_batch` ready slots; an episode whose actions or log-probs are not finite ends here."""
        began = time.monotonic()
        slots = [run.ready.popleft() for _ in range(min(len(run.ready), self.max_batch))]
        episodes = [run.running[slot] for slot in slots]
        obs = stack_observations(
            np.stack([e.images[-1] for e in episodes]),
            np.stack([e.states[-1] for e in episodes]),
            [e.spec.instruction for e in episodes],
        )
        sampling = replace(run.sampling, seeds=[e.action_seed() for e in episodes])
        chunk = self.policy.act(self.policy.prepare(obs), sampling)
        self.seconds_acting += time.monotonic() - began
        for row, (slot, episode) in enumerate(zip(slots, episodes, strict=True)):
            actions, log_probs = chunk.actions[row].numpy(), chunk.log_probs[row].numpy()
            if not (np.isfinite(actions).all() and np.isfinite(log_probs).all()):
                trajectory = run.finish(slot, False, "nan_action")
                self._start_next(run, slot)
                yield trajectory
                continue
            episode.tokens.append(chunk.sampled[row].numpy())
            episode.log_probs.append(log_probs)
            self.pool.step(slot, actions)
