"""The sparse reward: did the episode reach its goal?"""

import numpy as np
import torch
from torch import Tensor

from siirl.rewards.base import REWARDS, Reward


def sparse_reward(success: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """1 for a success, 0 for a failure.

    Args:
        success: bool [n].

    Returns:
        float32 [n], a tensor if ``success`` is one, else a NumPy array.
    """
    if isinstance(success, Tensor):
        return success.to(torch.float32)
    return np.asarray(success, dtype=np.float32)


REWARDS.register("sparse")(Reward(lambda inputs: np.asarray(sparse_reward(inputs.success))))
