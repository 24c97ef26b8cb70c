"""The spread of continuous actions by names and numbers alone: its parameter, its file, and settings that cannot work."""

from collections.abc import Iterator

from siirl.config.keys import get_value, given, refuse
from siirl.config.schema import Config
from siirl.config.shapes import Shapes

PREFIX = "action_noise."
"""Before the name of the parameter, among those of the policy and in `FILE`."""
FILE = "action_noise.safetensors"
"""Beside a policy's weights. What does not know of it does not look at it."""
LOG_STD = f"{PREFIX}log_std"
NOISE = "actor_rollout_ref.model.action_noise"


def action_noise_shapes(action_dim: int, per_dimension: bool) -> Shapes:
    """Its parameter, with `PREFIX`."""
    return {LOG_STD: [action_dim if per_dimension else 1]}


def check_action_noise(config: Config) -> Iterator[str]:
    """The bounds must leave room, with the first value between them."""
    noise = config.actor_rollout_ref.model.action_noise
    low, first, high = (f"{NOISE}.{name}" for name in ("min_std", "initial_std", "max_std"))
    if noise.min_std > noise.max_std:
        yield refuse(config, low, f"at most {given(config, high)}", f"{low}={noise.max_std} {high}={noise.min_std}")
    elif not noise.min_std <= noise.initial_std <= noise.max_std:
        nearest = min(max(get_value(config, first), noise.min_std), noise.max_std)
        allowed = f"between {given(config, low)} and {given(config, high)}"
        yield refuse(config, first, allowed, f"{first}={nearest}, or wider bounds")
