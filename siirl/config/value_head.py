"""The value head by names and numbers alone: how many values it gives, and which parameters that takes."""

import math
from itertools import pairwise
from pathlib import Path

from siirl.config.action_noise import PREFIX as NOISE_PREFIX
from siirl.config.schema import Config
from siirl.config.shapes import Shapes, folder_shapes

PREFIX = "value_head."
"""Before the names of the head's parameters, among those of the policy and in `FILE`."""
FILE = "value_head.safetensors"
"""Beside a policy's weights. What does not know of value heads does not look at it."""
BESIDE = (PREFIX, NOISE_PREFIX)
"""Before the names of what a policy is given to be trained: a value head, the spread of its actions. Each has its own file."""
WIDTHS = (512, 128)
"""Of the two hidden layers."""


def value_outputs(config: Config) -> int:
    """V, the values of an observation: one for each of what rewards belong to; 0 where no value head is trained."""
    if not config.critic.use_critic_model:
        return 0
    return config.actor_rollout_ref.embodied.action_chunks_len if config.algorithm.reward_type == "action_level" else 1


def value_head_shapes(hidden_size: int, outputs: int) -> Shapes:
    """Its parameters, with `PREFIX`; none for 0 ``outputs``."""
    shapes: Shapes = {}
    for number, (inputs, rows) in enumerate(pairwise((hidden_size, *WIDTHS, outputs)), start=1):
        shapes |= {f"{PREFIX}fc{number}.weight": [rows, inputs], f"{PREFIX}fc{number}.bias": [rows]}
    return shapes if outputs else {}


def value_head_parameters(config: Config, policy: Shapes) -> int:
    """How many a run trains beside a policy of these shapes."""
    ends = ("lm_head.weight", "embed_tokens.weight")  # where the two are one, only the latter is stored
    hidden_size = next((shape[1] for name, shape in policy.items() if name.endswith(ends)), 0)
    return sum(math.prod(shape) for shape in value_head_shapes(hidden_size, value_outputs(config)).values())


def policy_shapes(folder: Path) -> Shapes:
    """A policy folder's parameters, without what lies beside them (`BESIDE`). Raises ValueError as `folder_shapes`."""
    return {name: shape for name, shape in folder_shapes(folder).items() if not name.startswith(BESIDE)}
