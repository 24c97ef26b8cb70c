"""SRPO's reward: failures are scored by how close their video comes to the successes of the same batch.

Source: SRPO: Self-Referential Policy Optimization for Vision-Language-Action Models. For a failure i of a task,

    d_i = min over references c of ‖e_i − c‖,   d̂_i = (d_i − min d) / (max d − min d),
    reward_i = 0.6 · σ(10 · (0.5 − d̂_i)),

where the references are the DBSCAN cluster centres of the task's successful embeddings, or their mean.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import DBSCAN
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from siirl.rewards.base import REWARDS, Reward, RewardInputs


def srpo_reward(
    embeddings: np.ndarray | Tensor,
    success: np.ndarray | Tensor | Sequence[bool],
    task: np.ndarray | Tensor | Sequence[str] | Sequence[int],
    *,
    scale: float = 0.6,
    steepness: float = 10.0,
    offset: float = 0.5,
    eps: float = 0.5,
    min_samples: int = 2,
    tie: float = 1e-6,
) -> np.ndarray | Tensor:
    """SRPO's reward of n episodes (equation above); tasks do not influence each other, nor does the order of the batch.

    Args:
        embeddings: one video embedding per episode, floating [n, E].
        success: bool [n].
        task: which task each episode belongs to, any hashable labels [n].
        scale: limit of a failure's reward; 0 for a failure at infinite distance.
        steepness, offset: slope and centre of the sigmoid over the normalised distance.
        eps, min_samples: DBSCAN's radius and core size, on embeddings standardised over the task's successes.
        tie: when a task's failure distances differ by less than this, all of them count as d̂ = 0.5.

    Returns:
        [n]: 1 for a success; [0, scale) for a failure; 0 for a failure whose task has no success in the batch.
        A tensor on the embeddings' device if they are a tensor, else a NumPy array; in the embeddings' dtype. (The
        computation runs in float64 on the CPU.)

    Raises:
        ValueError: the three arguments differ in length.
    """
    vectors, succeeded, labels = _to_arrays(embeddings, success, task)
    reward = succeeded.astype(np.float64)
    for label in np.unique(labels):
        failures, successes = (labels == label) & ~succeeded, (labels == label) & succeeded
        if failures.any() and successes.any():
            distance = _distance(vectors[failures], _references(vectors[successes], eps, min_samples))
            reward[failures] = scale / (1 + np.exp(-steepness * (offset - _normalise(distance, tie))))
    return _like(embeddings, reward)


def _to_arrays(embeddings: object, success: object, task: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments as arrays float64 [n, E], bool [n] and [n]; ValueError when they differ in length."""
    vectors, succeeded, labels = _to_numpy(embeddings), _to_numpy(success), _to_numpy(task)
    if not len(vectors) == len(succeeded) == len(labels):
        raise ValueError(
            f"one entry per episode is needed, but there are {len(vectors)} embeddings, {len(succeeded)} success flags "
            f"and {len(labels)} tasks"
        )
    return vectors.astype(np.float64), succeeded.astype(bool), labels


def _like(embeddings: np.ndarray | Tensor, reward: np.ndarray) -> np.ndarray | Tensor:
    """``reward`` as the kind of array, in the dtype and on the device that ``embeddings`` has."""
    if isinstance(embeddings, Tensor):
        return torch.as_tensor(reward, dtype=embeddings.dtype, device=embeddings.device)
    return reward.astype(np.asarray(embeddings).dtype)


def _references(successes: np.ndarray, eps: float, min_samples: int) -> np.ndarray:
    """What success looks like: DBSCAN's cluster centres [K, E] of ``successes`` [m, E], or their mean [1, E]."""
    successes = successes[
        np.lexsort(successes.T)
    ]  # else rounding, which follows the order, decides where a distance is eps itself
    standardised = StandardScaler().fit_transform(successes)
    clusters = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(standardised)
    # Standardising is affine, so a cluster's centre is the mean of its points in the original space too.
    centres = [successes[clusters == c].mean(axis=0) for c in np.unique(clusters) if c >= 0]
    return np.stack(centres or [successes.mean(axis=0)])


def _distance(failures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Euclidean distance [m] of each of ``failures`` [m, E] to the nearest of ``references`` [K, E]."""
    return np.linalg.norm(failures[:, None] - references[None], axis=-1).min(axis=1)


def _normalise(distance: np.ndarray, tie: float) -> np.ndarray:
    """Min-max normalisation of ``distance`` [m] to [0, 1]; 0.5 everywhere when they are all equal."""
    spread = distance.max() - distance.min()
    return np.full_like(distance, 0.5) if spread < tie else (distance - distance.min()) / spread


def _to_numpy(values: object) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _from_inputs(inputs: RewardInputs) -> np.ndarray:
    assert inputs.embeddings is not None, "SRPO needs embeddings"
    return np.asarray(srpo_reward(inputs.embeddings, inputs.success, inputs.task))


REWARDS.register("srpo")(Reward(_from_inputs, needs_embedding=True, final=True))
