"""Episodes while they run: what is recorded of one until it becomes a trajectory, and where all of a run are."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Trajectory
from siirl.envs.base import EnvObs, StepResult
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeSource


@dataclass(frozen=True)
class Weights:
    """Which weights act: those after training step ``step``, of ``version`` optimizer steps."""

    step: int
    version: int


@dataclass
class RunningEpisode:
    """What is known so far of an episode in a slot.

    Attributes:
        spec: the episode.
        chunk_len: T, actions that the policy predicts at a time.
        weights: those that acted first in it; None until they did.
        truncated: whether its last chunk reached its most steps, without an end of its own.
    """

    spec: EpisodeSpec
    chunk_len: int
    weights: Weights | None = None
    images: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    log_probs: list[np.ndarray] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    truncated: bool = False
    _since: float = field(default_factory=time.monotonic)
    _seconds: float = 0.0

    def observe(self, obs: EnvObs) -> None:
        """Append a one-row observation."""
        self.images.append(obs.views()[0])
        self.states.append(obs.states[0])
        now = time.monotonic()
        self._seconds, self._since = self._seconds + now - self._since, now

    def step(self, result: StepResult) -> None:
        """Append a one-row result."""
        self.observe(result.obs)
        self.executed.append(int(result.executed[0]))
        rewards = np.zeros(self.chunk_len, np.float32)  # of the actions that were left out, too
        rewards[: result.rewards.shape[1]] = result.rewards[0]
        self.rewards.append(rewards)
        self.truncated = bool(result.truncated[0])

    def skip_wait(self) -> None:
        """The time since the first observation, in which there were no weights to act with, is none of the episode's."""
        self._since = time.monotonic() if self.images else self._since

    def act(
        self,
        actions: np.ndarray,
        tokens: np.ndarray,
        log_probs: np.ndarray,
        values: np.ndarray | None,
        weights: Weights,
    ) -> None:
        """Append what the policy decided, [T, D], what it drew, [K] each, and what it expects, [V]; the first chunk's ``weights``
        are the episode's."""
        self.weights = self.weights or weights
        self.actions.append(actions)
        self.tokens.append(tokens)
        self.log_probs.append(log_probs)
        if values is not None:
            self.values.append(values)

    def action_seed(self) -> int:
        """A seed for the next chunk that depends on the episode and the chunk's index alone."""
        return int(
            np.random.SeedSequence([self.spec.action_seed, len(self.tokens)]).generate_state(1, np.uint64)[0] >> 1
        )

    def finish(self, success: bool, weights: Weights, retries: int, drop_reason: str | None) -> Trajectory:
        """The trajectory of the chunks that were executed; ``weights`` are those of an episode in which nothing acted.

        An episode that was cancelled before its first observation leaves empty images and states.
        """
        steps, chunks, weights = sum(self.executed), len(self.executed), self.weights or weights
        summary = EpisodeSummary(
            spec=self.spec,
            success=success,
            steps=steps,
            chunks=chunks,
            truncated=self.truncated,
            policy_version=weights.version,
            weights_step=weights.step,
            drop_reason=drop_reason,
            retries=retries,
            seconds=self._seconds,
            reward_sum=float(np.sum(self.rewards)),
            actions=np.concatenate([a[:n] for a, n in zip(self.actions, self.executed, strict=False)])
            if chunks
            else None,
        )
        return Trajectory(
            summary=summary,
            images=np.stack(self.images) if self.images else np.zeros((0, 0, 0, 0, 3), np.uint8),
            states=np.stack(self.states) if self.states else np.zeros((0, 0), np.float32),
            tokens=np.stack(self.tokens[:chunks]) if chunks else np.zeros((0, 0), np.int16),
            log_probs=np.stack(self.log_probs[:chunks]) if chunks else np.zeros((0, 0), np.float32),
            executed=np.asarray(self.executed, np.int16),
            rewards=np.stack(self.rewards) if chunks else np.zeros((0, 0), np.float32),
            values=self._values(chunks),
        )

    def _values(self, chunks: int) -> np.ndarray | None:
        """Those of the chunks that were executed, and of the last observation: 0 unless somebody appended one."""
        if not self.values:
            return None
        values = np.stack([*self.values, np.zeros_like(self.values[0])]).astype(np.float32)
        return values[: chunks + 1]


@dataclass
class Run:
    """The state of one call of `siirl.roles.rollout.Rollout.run`, whose arguments are the first four.

    Attributes:
        gated: whether it waits for weights.
        cancelled: another thread may set it.
        running: the episode in each slot that has one.
        ready: slots whose observation waits for the policy.
        retries: how often each episode was started again.
        unvalued: episodes that ended, and whether with success, whose last observation is still to be valued.
    """

    queue: EpisodeSource
    sampling: Sampling
    after: int
    bootstrap: str | None
    gated: bool = True
    cancelled: bool = False
    running: dict[int, RunningEpisode] = field(default_factory=dict)
    ready: deque[int] = field(default_factory=deque)
    retries: Counter[EpisodeSpec] = field(default_factory=Counter)
    unvalued: list[tuple[RunningEpisode, bool]] = field(default_factory=list)
