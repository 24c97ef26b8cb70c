"""What is asked of an episode (`EpisodeSpec`) and what it leaves behind (`EpisodeSummary`, `Trajectory`)."""

from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from siirl.config.environments import TRAINING

CANCELLED = "cancelled"
"""The drop reason of an episode that still ran when its batch had enough groups."""


@dataclass(frozen=True)
class EpisodeSpec:
    """One run of the policy from one initial state.

    Attributes:
        suite: benchmark suite, e.g. ``libero_spatial``.
        task_id: index of the language goal in the suite.
        trial_id: index of an initial state of that task.
        instruction: the language goal.
        max_steps: environment steps after which the episode is truncated.
        group_id: episodes with the same number are one GRPO group.
        index: position of the episode in its group, in [0, n).
        env_seed: seeds the simulator's own randomness; equal within a group, so that its episodes start alike.
        action_seed: seeds the sampling of actions; different for every episode.
        env: which of the run's environments it runs in, see `siirl.config.environments`.
    """

    suite: str
    task_id: int
    trial_id: int
    instruction: str
    max_steps: int
    group_id: int
    index: int
    env_seed: int
    action_seed: int
    env: str = TRAINING

    @property
    def prompt_id(self) -> str:
        """The (task, trial) pair that a group shares, e.g. ``libero_spatial/3/17``."""
        return f"{self.suite}/{self.task_id}/{self.trial_id}"


@dataclass(frozen=True)
class EpisodeSummary:
    """The few numbers of an episode that the driver needs; everything heavy stays in the `Trajectory`.

    Attributes:
        spec: the episode that was run.
        success: whether the goal was reached.
        steps: environment steps executed.
        chunks: policy forwards executed.
        truncated: whether ``max_steps`` ended the episode; else it ended by itself.
        policy_version: optimizer iterations behind the weights that acted first.
        weights_step: training step that these weights came from.
        drop_reason: why the episode must not train (NaN observation, cancelled, …), or None.
        retries: how often the episode was started again because its simulator died.
        seconds: wall time from reset to end, without a wait for new weights before the first action.
        reward_sum: of the simulator's rewards.
        video: where its video is written, relative to the run folder; None where it was not chosen. The file may be missing: the
            oldest ones are removed, and a full disk takes none.
        actions: those that were executed, un-normalised, float32 [steps, D]; None where nobody asks for them.
        rewards, values: as in the `Trajectory`, where an advantage estimator looks at them, else None.
    """

    spec: EpisodeSpec
    success: bool
    steps: int
    chunks: int
    truncated: bool
    policy_version: int
    drop_reason: str | None = None
    retries: int = 0
    seconds: float = 0.0
    weights_step: int = 0
    reward_sum: float = 0.0
    video: str | None = None
    actions: np.ndarray | None = field(default=None, compare=False)
    rewards: np.ndarray | None = field(default=None, compare=False)
    values: np.ndarray | None = field(default=None, compare=False)


@dataclass
class Trajectory:
    """Everything the update and the video embedding need of an episode of C chunks.

    Attributes:
        summary: the episode's numbers.
        images: observations, uint8 [C + 1, V, H, W, 3] with V views (main, wrist, extra ones); the last one is the
            final frame.
        states: proprioception, float32 [C + 1, D].
        tokens: what the policy sampled, [C, K] (K = action_chunks_len × action_token_len) in its dtype; OpenVLA-OFT's
            are action bins, int16 in [0, 256), those of a policy of continuous actions are these, normalised, float32.
        log_probs: log-probability of each sampled token under the behaviour policy, float32 [C, K].
        executed: environment steps executed of each chunk, int16 [C]: embodied.num_executed_actions, or fewer where the
            episode ended.
        rewards: the simulator's, of each action, float32 [C, T]; 0 for actions that were not executed.
        values: what the policy expected of each observation, float32 [C + 1, V] (V = 1 for the whole chunk, or T, one for each
            of its actions); the last one is 0 where nothing was to come (``bootstrap_type``). None without a value head.
    """

    summary: EpisodeSummary
    images: np.ndarray
    states: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    executed: np.ndarray
    rewards: np.ndarray
    values: np.ndarray | None = None

    @property
    def frames(self) -> np.ndarray:
        """The main camera's frames, uint8 [C + 1, H, W, 3]."""
        return self.images[:, 0]


@dataclass(frozen=True)
class Stored:
    """A column's value that stays with the workers, such as a video embedding; only what runs there sees the value.

    Attributes:
        handle: the value's place in Ray's object store; in one process the value itself.
    """

    handle: Any

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise ValueError(
            "video embeddings stay with the workers, and the driver has no more than handles to them; "
            "a node whose function reads them has role='embedding', not 'driver' (docs/extending.md)"
        )


@dataclass
class Episode:
    """The driver's row for an episode: its summary, a handle to its trajectory, and the columns that nodes add.

    Attributes:
        summary: the episode's numbers.
        trajectory: a `Trajectory`, or a reference to one in Ray's object store.
        columns: values added by the nodes of the graph: ``embedding`` (`Stored`), ``reward``, ``advantage``, and ``return`` where
            values are trained.
    """

    summary: EpisodeSummary
    trajectory: Any
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What the update makes of an episode of C chunks.

    Attributes:
        advantage: of the whole episode [], of each chunk [C], or of each action [C, T]; float32.
        returns: what its values should have been, [C] or [C, T]; None where none are trained.
    """

    advantage: np.ndarray
    returns: np.ndarray | None = None


@dataclass
class Group:
    """The episodes of one prompt that were rolled out together, ordered by their index."""

    episodes: list[Episode]

    @property
    def accuracy(self) -> float:
        """Fraction of the group's episodes that succeeded."""
        return sum(e.summary.success for e in self.episodes) / len(self.episodes)
