"""What a StarVLA config says of the policy: the sections ``framework`` and ``datasets.vla_data`` of its ``config.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRAINED_SIZE = (224, 224)
"""Width and height that StarVLA's data loader gives every training image, whatever the config says."""
SIZE_KEYS = ("obs_image_size", "image_size", "default_image_resolution")
"""Keys that StarVLA has had for the size of camera images, the newest first; the last is [channels, height, width]."""

PLACE = "{instruction}"
"""What the instruction, and the framework's words behind it, replace in ``CoT_prompt``."""


@dataclass(frozen=True)
class StarVLASettings:
    """A framework's sizes, and how observations become its inputs.

    Attributes:
        name: the framework, e.g. QwenOFT.
        chunk_len, action_dim: T and D.
        image_size: (width, height) that camera images are resized to first; None: they are not.
        instruction: wraps instruction and suffix, where ``{instruction}`` stands; None: nothing does.
        state_dim: values of the robot's state that the prompt tells, 7 or 8; None: it tells none.
    """

    name: str
    chunk_len: int
    action_dim: int
    image_size: tuple[int, int] | None = None
    instruction: str | None = None
    state_dim: int | None = None

    @classmethod
    def read(cls, framework: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> "StarVLASettings":
        """From the two sections; ``data`` is ``datasets.vla_data``.

        Raises:
            ValueError: a key is missing, or has a value of another kind.
        """
        data = data or {}
        name = framework.get("name", framework.get("framework_py"))
        if not isinstance(name, str):
            raise ValueError(f"framework.name is {name!r}; it must name the framework, e.g. QwenOFT.")
        action = framework.get("action_model")
        if not isinstance(action, Mapping):
            raise ValueError("the config has no section framework.action_model, which says the sizes of actions.")
        with_state = data.get("include_state", False) not in (False, "False", None)
        return cls(
            name,
            chunk_len(action),
            _positive(action.get("action_dim", 7), "action_dim"),
            _image_size(data),
            _instruction(data.get("CoT_prompt")),
            _state_dim(action) if with_state else None,
        )


def chunk_len(action: Mapping[str, Any]) -> int:
    """T: ``action_horizon``, or in older configs the action of now and those of a window before and behind it."""
    if action.get("action_horizon") is not None:
        return _positive(action["action_horizon"], "action_horizon")
    if action.get("future_action_window_size") is None:
        raise ValueError(
            "framework.action_model has neither action_horizon nor future_action_window_size; one of them must say how many "
            "actions a chunk has."
        )
    sides = [action["future_action_window_size"], action.get("past_action_window_size") or 0]
    if not all(isinstance(side, int) and side >= 0 for side in sides):
        raise ValueError(
            f"framework.action_model: the future and past windows are {sides}; they must be whole numbers from 0."
        )
    return sum(sides) + 1


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"framework.action_model.{name} is {value!r}; it must be a whole number from 1.")
    return value


def _state_dim(action: Mapping[str, Any]) -> int:
    dim = action.get("state_dim") or 8
    if dim not in (7, 8):
        raise ValueError(
            f"framework.action_model.state_dim is {dim!r}; LIBERO's states have 8 values, or 7 with one for the gripper."
        )
    return int(dim)


def _instruction(template: Any) -> str | None:
    if template is not None and not (isinstance(template, str) and PLACE in template):
        raise ValueError(f"datasets.vla_data.CoT_prompt is {template!r}; it must be text with {PLACE} in it.")
    return template


def _image_size(data: Mapping[str, Any]) -> tuple[int, int] | None:
    for key in SIZE_KEYS:
        if size := data.get(key):
            sides = list(size) if isinstance(size, list | tuple) else [size]
            height_first = key == SIZE_KEYS[-1]
            if height_first and len(sides) == 3:
                del sides[0]  # the channels
            if not all(isinstance(side, int) and side > 0 for side in sides) or len(sides) != 2:
                raise ValueError(f"datasets.vla_data.{key} is {size!r}; it must be two sides in pixels.")
            return (sides[1], sides[0]) if height_first else (sides[0], sides[1])
    return None
