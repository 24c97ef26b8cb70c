"""The columns that nodes add to episodes, and what the update makes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from siirl.data.trajectory import Episode, Target


def add_columns(episodes: Sequence[Episode], columns: dict[str, Any]) -> None:
    """Give each episode its value of every column."""
    for name, values in columns.items():
        for episode, value in zip(episodes, values, strict=True):
            episode.columns[name] = value


def target_of(episode: Episode) -> Target:
    """What the update makes of an episode, from its columns."""
    returns = episode.columns.get("return")
    return Target(
        np.asarray(episode.columns["advantage"], np.float32),
        None if returns is None else np.asarray(returns, np.float32),
    )
