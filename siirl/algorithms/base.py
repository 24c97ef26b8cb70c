"""The contract of an advantage estimator, registered by name."""

from collections.abc import Callable

import numpy as np

from siirl.config.schema import AlgorithmConfig
from siirl.registry import Registry

AdvantageFn = Callable[[np.ndarray, np.ndarray, AlgorithmConfig], np.ndarray]
"""(scores float [n], group_ids int [n], config) → advantages float [n]."""

ADVANTAGES: Registry[AdvantageFn] = Registry("algorithm.adv_estimator", "siirl.algorithms")
