"""What the classifier's verdict on a chunk of imagined frames comes to: rewards, success, and where the episode ended."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Outcome:
    """Of S slots and a chunk of N actions.

    Attributes:
        rewards: float32 [S, N]; 0 for actions after the end.
        success, truncated: bool [S].
        executed: actions that count, int64 [S].
        probabilities: of success after the last action that counts, float32 [S].
    """

    rewards: np.ndarray
    success: np.ndarray
    truncated: np.ndarray
    executed: np.ndarray
    probabilities: np.ndarray


def settle(probabilities: np.ndarray, before: np.ndarray, steps_left: np.ndarray, threshold: float) -> Outcome:
    """End each slot at its first frame with a probability ≥ ``threshold``, or when no steps are left.

    An action's reward is what it added to the probability, so that an episode's rewards add up to the last one. A probability
    of NaN is no success and gives a reward of NaN.

    Args:
        probabilities: of success in the frame after each action, float32 [S, N].
        before: the same after the action before, float32 [S]; 0 at the start of an episode.
        steps_left: actions that each may still take, at least 1, int [S].
        threshold: in (0, 1].
    """
    rows, length = probabilities.shape
    steps = np.arange(1, length + 1)
    reached = (probabilities >= threshold) & (steps <= steps_left[:, None])
    success = reached.any(axis=1)
    executed = np.where(success, reached.argmax(axis=1) + 1, np.minimum(steps_left, length))
    gained = np.diff(probabilities, axis=1, prepend=before[:, None])
    return Outcome(
        rewards=np.where(steps <= executed[:, None], gained, 0).astype(np.float32),
        success=np.asarray(success),
        truncated=~success & (executed == steps_left),
        executed=executed,
        probabilities=probabilities[np.arange(rows), executed - 1],
    )
