"""A pool of make-believe simulators whose episodes last as long as their spec's env_seed says, for scheduling tests."""

import random

import numpy as np
import torch

from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import EnvObs, StepResult
from siirl.policies.base import ActionChunk, Sampling
from siirl.roles.slots import Died, Ready

CHUNK, DIM = 4, 7


def spec(i: int, length: int = 9, task: int = 0, max_steps: int = 40) -> EpisodeSpec:
    """An episode that succeeds after ``length`` steps."""
    return EpisodeSpec("suite", task, i, "do it", max_steps, i, 0, env_seed=length, action_seed=1000 + i)


def observation(name: int, step: int) -> EnvObs:
    """An image and a state that tell the episode and the step."""
    return EnvObs(np.full((1, 4, 4, 3), step % 256, np.uint8), np.array([[name, step]], np.float32), ["do it"])


class ScriptedPool:
    """Answers in a random order; checks that nobody steps a slot that is busy, finished or was never reset."""

    chunk = CHUNK

    def __init__(self, num_slots: int, seed: int = 0, dies: dict[int, int] | None = None) -> None:
        self.num_slots, self.envs = num_slots, ["env"] * num_slots
        self.dies = dict(dies or {})
        self.steps_after_end = 0
        self.started: list[int] = []
        self._random = random.Random(seed)
        self._specs: dict[int, EpisodeSpec] = {}
        self._at: dict[int, int] = {}
        self._pending: dict[int, np.ndarray | None] = {}

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        assert slot not in self._pending
        self._specs[slot], self._at[slot], self._pending[slot] = spec, 0, None
        self.started.append(spec.trial_id)

    def step(self, slot: int, actions: np.ndarray) -> None:
        assert slot not in self._pending
        assert actions.shape == (self.chunk, DIM)
        self.steps_after_end += self._at[slot] >= self._specs[slot].env_seed
        self._pending[slot] = actions

    def rest(self) -> None:
        assert not self._pending, "an answer is still to be seen"

    def wait(self, block: bool) -> list[Ready | Died]:
        assert self._pending or not block, "would wait for ever"
        count = self._random.randint(int(block), len(self._pending)) if self._pending else 0
        slots = self._random.sample(sorted(self._pending), count)
        return [self._answer(slot) for slot in slots]

    def _look(self, slot: int) -> EnvObs:
        return observation(self._specs[slot].trial_id, self._at[slot])

    def _answer(self, slot: int) -> Ready | Died:
        spec, actions = self._specs[slot], self._pending.pop(slot)
        if self.dies.get(spec.trial_id, 0) > 0:
            self.dies[spec.trial_id] -= 1
            return Died(slot, "scripted death")
        if actions is None:
            return Ready(slot, self._look(slot))
        end = min(spec.env_seed, spec.max_steps)
        executed = min(self.chunk, end - self._at[slot])
        self._at[slot] += executed
        ended, success = self._at[slot] == end, self._at[slot] == spec.env_seed
        flag = lambda value: np.array([value])  # noqa: E731
        return Ready(
            slot,
            StepResult(
                self._look(slot),
                np.zeros((1, self.chunk), np.float32),
                flag(success),
                flag(success),
                flag(ended and not success),
                flag(executed),
            ),
        )


class DriftingPool(ScriptedPool):
    """What is seen depends on all actions of the episode, in the sizes of the tiny policy."""

    chunk = 8

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        super().reset(slot, spec)
        self._state = getattr(self, "_state", {}) | {slot: np.full(8, spec.trial_id / 10, np.float32)}

    def step(self, slot: int, actions: np.ndarray) -> None:
        super().step(slot, actions)
        self._state[slot][:DIM] += actions.mean(0)

    def _look(self, slot: int) -> EnvObs:
        state = self._state[slot]
        image = np.random.default_rng(abs(int(state.sum() * 1e6))).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        return EnvObs(image, state[None].copy(), [self._specs[slot].instruction])


class TimedPool(ScriptedPool):
    """Every request takes ``seconds`` of a make-believe clock ``now``, which waiting sets forward."""

    def __init__(self, num_slots: int, seconds: float) -> None:
        super().__init__(num_slots)
        self.now = 0.0
        self._seconds = seconds
        self._due: dict[int, float] = {}

    def reset(self, slot: int, spec: EpisodeSpec) -> None:
        super().reset(slot, spec)
        self._due[slot] = self.now + self._seconds

    def step(self, slot: int, actions: np.ndarray) -> None:
        super().step(slot, actions)
        self._due[slot] = self.now + self._seconds

    def wait(self, block: bool) -> list[Ready | Died]:
        assert self._due or not block, "would wait for ever"
        if block:
            self.now = max(self.now, min(self._due.values()))
        slots = [slot for slot, due in self._due.items() if due <= self.now]
        for slot in slots:
            del self._due[slot]
        return [self._answer(slot) for slot in slots]


class SeededPolicy:
    """Draws bins from the row's seed and state alone."""

    action_dim, chunk_len = DIM, CHUNK

    def __init__(self, nan_for: int | None = None, nan_log_prob_for: int | None = None) -> None:
        self.batches: list[int] = []
        self.nan_for = nan_for
        self.nan_log_prob_for = nan_log_prob_for

    def prepare(self, obs: EnvObs) -> dict[str, torch.Tensor]:
        return {"states": torch.from_numpy(obs.states)}

    def act(self, inputs: dict[str, torch.Tensor], sampling: Sampling) -> ActionChunk:
        states = inputs["states"]
        self.batches.append(len(states))
        rows = []
        for state, seed in zip(states, sampling.seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            rows.append((torch.rand(CHUNK * DIM, generator=generator) * 256 + state.sum()).long() % 256)
        sampled = torch.stack(rows)
        actions = sampled.float().view(-1, CHUNK, DIM)
        actions[states[:, 0] == self.nan_for] = float("nan")
        log_probs = torch.zeros(sampled.shape)
        log_probs[states[:, 0] == self.nan_log_prob_for] = float("nan")
        return ActionChunk(actions, sampled, log_probs)
