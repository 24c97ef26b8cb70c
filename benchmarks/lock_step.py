"""The schedules of others, to compare with: a batch of one episode per slot, all of them waiting for the slowest."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from siirl.data.trajectory import EpisodeSpec, Trajectory
from siirl.envs.base import EnvObs, StepResult
from siirl.envs.libero import LiberoEnv, to_libero_gripper
from siirl.observe.timeline import Notebook
from siirl.policies.base import ActionChunk, Policy, Sampling, stack_observations
from siirl.roles.running import RunningEpisode, Weights
from siirl.roles.slots import Died, EnvPool, Slots

WEIGHTS = Weights(step=0, version=0)
"""Those of the policy as it was loaded."""


class LockStep:
    """Batches of as many episodes as there are slots; at each chunk all wait for the slowest, and the next batch for the last.

    Args:
        policy: acts on the whole batch.
        pool: the simulator slots.
        to_max_steps: go on acting and stepping in episodes that have ended, until ``max_steps``; else their slots stand idle.
    """

    def __init__(self, policy: Policy, pool: EnvPool, to_max_steps: bool) -> None:
        self.policy = policy
        self.slots = Slots(pool, Notebook("lock step"))
        self.to_max_steps = to_max_steps
        self.steps = 0  # all that were simulated, after an episode's end as well

    def run(self, specs: Sequence[EpisodeSpec], sampling: Sampling) -> list[Trajectory]:
        """Every episode once, batch after batch; the seeds of ``sampling`` are not looked at."""
        self.slots.watch()
        return [t for batch in batches(specs, self.slots.num_slots) for t in self._batch(batch, sampling)]

    def _batch(self, specs: Sequence[EpisodeSpec], sampling: Sampling) -> Iterator[Trajectory]:
        self.slots.episodes_waited()
        running = [RunningEpisode(spec, self.policy.chunk_len) for spec in specs]
        for slot, spec in enumerate(specs):
            self.slots.reset(slot, spec)
        self._wait(running)
        ended: set[int] = set()
        chunks = math.ceil(max(spec.max_steps for spec in specs) / self.policy.chunk_len)
        for chunk in itertools.count(1):
            acting = [slot for slot in range(len(specs)) if self.to_max_steps or slot not in ended]
            actions = self._act([running[slot] for slot in acting], sampling).actions.numpy()
            for row, slot in enumerate(acting):
                self.slots.step(slot, actions[row])
            for slot, result in self._wait(running).items():
                self.steps += int(result.executed[0])
                if slot not in ended and (result.success[0] or result.terminated[0] or result.truncated[0]):
                    ended.add(slot)
                    yield running[slot].finish(bool(result.success[0]), WEIGHTS, 0, None)
            if chunk == chunks or (len(ended) == len(specs) and not self.to_max_steps):
                return

    def _act(self, episodes: Sequence[RunningEpisode], sampling: Sampling) -> ActionChunk:
        obs = stack_observations(
            np.stack([e.images[-1] for e in episodes]),
            np.stack([e.states[-1] for e in episodes]),
            [e.spec.instruction for e in episodes],
        )
        chunk = self.policy.act(self.policy.prepare(obs), replace(sampling, seeds=[e.action_seed() for e in episodes]))
        for row, episode in enumerate(episodes):
            episode.act(
                chunk.actions[row].numpy(), chunk.sampled[row].numpy(), chunk.log_probs[row].numpy(), None, WEIGHTS
            )
        return chunk

    def _wait(self, running: Sequence[RunningEpisode]) -> dict[int, StepResult]:
        """Wait for every slot that was asked; the results of steps by slot."""
        results = {}
        while self.slots.under_way:
            for event in self.slots.wait(block=True):
                if isinstance(event, Died):
                    raise RuntimeError(f"a simulator died, so that nothing can be compared: {event.cause}")
                if isinstance(event.result, EnvObs):
                    running[event.slot].observe(event.result)
                    continue
                running[event.slot].step(event.result)
                results[event.slot] = event.result
        return results


def batches(specs: Sequence[EpisodeSpec], size: int) -> list[Sequence[EpisodeSpec]]:
    """Episodes in their order, ``size`` at a time."""
    return [specs[first : first + size] for first in range(0, len(specs), size)]


class EndlessLibero(LiberoEnv):
    """LIBERO that can be stepped after an episode's end, up to its ``max_steps``."""

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        """See `Env.reset`."""
        self._spec = episodes[0]
        return super().reset(slots, episodes)

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        """See `Env.step`; after the end nothing succeeds any more."""
        if self._episode is not None:
            return super().step(slots, actions)
        assert self._simulator is not None, "reset came first"
        executed = min(actions.shape[1], self._spec.max_steps - self._steps)
        for action in to_libero_gripper(actions[0, :executed]):
            self._simulator.step(action)
        self._steps += executed
        no = np.array([False])
        return StepResult(self._observe(), np.zeros(actions.shape[:2], np.float32), no, no, no, np.array([executed]))
