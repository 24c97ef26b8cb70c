"""GAE: advantages of single chunks or actions, from value estimates. PPO's estimator."""

from collections.abc import Sequence

import numpy as np

from siirl.algorithms.base import ADVANTAGES, Advantages, EpisodeReturns, Estimator
from siirl.algorithms.statistics import whiten
from siirl.config.schema import AlgorithmConfig


def gae(episodes: Sequence[EpisodeReturns], config: AlgorithmConfig) -> Advantages:
    """Generalized advantage estimation: A_u = Σ_{l≥0} (γλ)^l δ_{u+l} with δ_u = r_u + γ V_{u+1} − V_u.

    A unit u is a chunk (``reward_type=chunk_level``: one decision, its reward the sum over its executed actions) or an executed
    action (``action_level``). After an episode's last unit, V is that of the final observation if the time limit ended
    the episode, and 0 if it was over (Pardo et al. 2018, *Time Limits in Reinforcement Learning*, arXiv 1712.00378); with
    ``bootstrap_type=always`` it is that of the final observation either way. What was not executed is no unit: the next one
    is the next that was. Rewards are multiplied by ``reward_scale``.

    The returns, which the value head learns, are A_u + V_u (TD(λ)). Only then, with ``normalize_advantages``, the advantages
    of all units of the batch are brought to mean 0 and standard deviation 1.

    Source: Schulman et al. 2016, arXiv 1506.02438, equation 16.

    Args:
        episodes: at least one, with values, V = 1 for chunks and V = T for actions.
        config: its ``gamma``, ``lam``, ``reward_type``, ``bootstrap_type``, ``reward_scale`` and ``normalize_advantages``.

    Returns:
        Arrays [C] for chunks, [C, T] for actions.
    """
    lengths = [len(episode.executed) for episode in episodes]
    rewards, values, active = _units(episodes, config.reward_type)
    episode = np.repeat(np.arange(len(episodes)), lengths)[np.nonzero(active)[0]]
    goes_on = [episode.truncated or config.bootstrap_type == "always" for episode in episodes]
    last = np.array(
        [e.values[-1, 0] if on and e.values is not None else 0.0 for e, on in zip(episodes, goes_on, strict=True)]
    )
    reward, value = config.reward_scale * rewards[active], values[active]
    following = np.empty_like(value)
    following[:-1] = value[1:]
    ends = np.flatnonzero(np.diff(episode, append=-1))
    following[ends] = last[episode[ends]]
    advantage = _discounted_sums(reward + config.gamma * following - value, episode, config.gamma * config.lam)
    returns = advantage + value
    if config.normalize_advantages:
        advantage = whiten(advantage)
    return Advantages(_per_episode(advantage, active, lengths), _per_episode(returns, active, lengths))


def _units(episodes: Sequence[EpisodeReturns], level: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards and values (float64) of the units of all episodes, one below the other, and which of them were executed (bool):
    [sum of C] for chunks, [sum of C, T] for actions."""
    executed = np.concatenate([episode.executed for episode in episodes])
    rewards = np.concatenate([episode.rewards for episode in episodes]).astype(np.float64)
    estimates = [episode.values for episode in episodes if episode.values is not None]
    assert len(estimates) == len(episodes), "gae needs value estimates"
    values = np.concatenate([rows[:-1] for rows in estimates]).astype(np.float64)
    actions = np.arange(rewards.shape[1]) < executed[:, None]
    if level == "action_level":
        assert values.shape == rewards.shape, f"values of actions are [C + 1, T], but V={values.shape[1]}"
        return rewards, values, actions
    assert values.shape == (len(rewards), 1), f"values of chunks are [C + 1, 1], but V={values.shape[1]}"
    return np.where(actions, rewards, 0.0).sum(axis=1), values[:, 0], executed > 0


def _discounted_sums(x: np.ndarray, episode: np.ndarray, factor: float) -> np.ndarray:
    """y_u = x_u + factor · y_{u+1} within each episode, 0 after its last; of all episodes at once, unit by unit.

    Args:
        x: the units of all episodes in order, float64 [U].
        episode: of each unit, int [U], ascending.
    """
    counts = np.bincount(episode, minlength=1)
    unit = np.arange(len(x)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.zeros((counts.max() + 1, len(counts)))  # [longest + 1, episodes], 0 beyond each end
    table[unit, episode] = x
    for now, following in zip(table[-2::-1], table[:0:-1], strict=True):
        now += factor * following
    return table[unit, episode]


def _per_episode(x: np.ndarray, active: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Numbers of the active units as one float32 array per episode, 0 elsewhere."""
    padded = np.zeros(active.shape, np.float32)
    padded[active] = x
    return np.split(padded, np.cumsum(lengths)[:-1])


ADVANTAGES.register("gae")(Estimator(gae, needs_values=True, scores_groups=False))
