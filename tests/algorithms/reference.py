"""The equations of the papers once more, in NumPy float64 and plain loops. Nothing here is shared with `siirl.algorithms`."""

import math
from collections.abc import Callable

import numpy as np

Row = list[float]


def finite_horizon_gae(
    rewards: Row, values: Row, bootstrap: float, gamma: float, lam: float
) -> tuple[np.ndarray, np.ndarray]:
    """Schulman et al. 2016, equation 16, as the double sum it is; and the λ-return A + V.

    Args:
        rewards, values: of an episode's decisions, in order.
        bootstrap: value of what follows the last.
    """
    following = [*values, bootstrap][1:]
    deltas = [r + gamma * after - v for r, v, after in zip(rewards, values, following, strict=True)]
    advantages = np.array(
        [sum((gamma * lam) ** ahead * delta for ahead, delta in enumerate(deltas[u:])) for u in range(len(deltas))]
    )
    return advantages, advantages + np.array(values)


def lambda_return(rewards: Row, values: Row, bootstrap: float, gamma: float, lam: float) -> np.ndarray:
    """G_u = r_u + γ ((1 − λ) V_{u+1} + λ G_{u+1}) (Sutton and Barto 2018, section 12.1): what GAE's returns must be."""
    found, ahead = np.zeros(len(rewards)), bootstrap
    following = [*values, bootstrap][1:]
    for u in reversed(range(len(rewards))):
        found[u] = ahead = rewards[u] + gamma * ((1 - lam) * following[u] + lam * ahead)
    return found


def whitened(x: np.ndarray) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    mean = math.fsum(x) / len(x)
    variance = math.fsum((x - mean) ** 2) / len(x)
    return (x - mean) / (math.sqrt(variance) + 1e-6)


def of_groups(scores: Row, groups: list[int], relative: Callable[[float, Row], float]) -> np.ndarray:
    """``relative(score, the others of its group)``; alone, the score."""
    found = []
    for i, score in enumerate(scores):
        others = [scores[j] for j in range(len(scores)) if j != i and groups[j] == groups[i]]
        found.append(relative(score, others) if others else score)
    return np.array(found)


def grpo(score: float, others: Row) -> float:
    """Shao et al. 2024, with the unbiased standard deviation."""
    group = np.array([score, *others])
    return (score - group.mean()) / (group.std(ddof=1) + 1e-6)


def dr_grpo(score: float, others: Row) -> float:
    """Liu et al. 2025."""
    return score - float(np.mean([score, *others]))


def rloo(score: float, others: Row) -> float:
    """Ahmadian et al. 2024."""
    return score - sum(others) / len(others)


def units(x: np.ndarray, mask: np.ndarray, size: int) -> list[tuple[int, int, float]]:
    """(row, unit, sum of its active entries) of the active units of ``size`` tokens."""
    found = []
    for b, m in np.ndindex(x.shape[0], x.shape[1] // size):
        picked = [float(x[b, k]) for k in range(m * size, (m + 1) * size) if mask[b, k]]
        if picked:
            found.append((b, m, math.fsum(picked)))
    return found


def clip_objective(ratio: float, a: float, low: float, high: float, c: float | None) -> float:
    """Schulman et al. 2017, equation 7, with the bounds of Yu et al. 2025; Ye et al. 2020, equation 5."""
    gain = min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)
    return max(gain, c * a) if c is not None and a < 0 else gain


def k1(log_r: float) -> float:
    """http://joschu.net/blog/kl-approx.html; log_r = log(reference / policy)."""
    return -log_r


def k2(log_r: float) -> float:
    """See `k1`."""
    return log_r**2 / 2


def k3(log_r: float) -> float:
    """See `k1`."""
    return math.expm1(log_r) - log_r


def huber(error: float, delta: float) -> float:
    """Huber 1964."""
    return error**2 / 2 if abs(error) <= delta else delta * (abs(error) - delta / 2)


def value_error(v: float, old: float, target: float, clip: float | None, delta: float) -> float:
    """The larger of both errors, as in the code of Schulman et al. 2017."""
    plain = huber(v - target, delta)
    if clip is None:
        return plain
    bounded = min(max(v, old - clip), old + clip)
    return max(plain, huber(bounded - target, delta))


def explained_variance(returns: np.ndarray, values: np.ndarray) -> float:
    """1 − Var(r − v) / Var(r)."""
    return 1 - float(np.var(returns - values) / np.var(returns))


def slope(function: Callable[[float], float], x: float, step: float = 1e-6) -> float:
    """The central difference quotient, exact to about 1e-9 of the function's size where it is smooth."""
    return (function(x + step) - function(x - step)) / (2 * step)
