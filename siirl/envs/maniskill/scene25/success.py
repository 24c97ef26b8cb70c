"""When the object lies on the plate, and the reward on the way there."""

import torch

XY_MARGIN = 0.01
Z_MARGIN = 0.05
MIN_FORCE = 0.03
"""Metres, metres and newtons: the benchmark's."""

HELD_STEPS = 5
"""Control steps in a row after which the object counts as held."""


def rotated_extents(size: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Extents along the world's axes of boxes float32 [B, 3] (metres) under rotations [B, 3, 3]: |R| · size."""
    return (rotation.abs() @ size[:, :, None])[:, :, 0]


def on_plate(
    offset: torch.Tensor, extents: torch.Tensor, plate_extents: torch.Tensor, force: torch.Tensor
) -> torch.Tensor:
    """Whether objects lie on their plates, bool [B].

    Args:
        offset: [B, 3], the object's position minus the plate's, metres.
        extents: [B, 3], of the object along the world's axes when the episode began.
        plate_extents: [B, 3], likewise of the plate.
        force: [B], between object and plate, newtons: they touch.
    """
    above = offset[:, 2] - (extents[:, 2] + plate_extents[:, 2]) / 2
    near = offset[:, :2].norm(dim=1) <= plate_extents.amax(dim=1) / 2 + XY_MARGIN
    return near & (offset[:, 2] > 0) & (above <= Z_MARGIN) & (force > MIN_FORCE)


class Progress:
    """What each of B episodes has reached, and the reward for it.

    An episode's stage is 0.1 once the object was grasped, 0.1 more once it was held for five steps, and 1 more while it lies on
    the plate after it was grasped; a step's reward is how much the stage rose.

    Attributes:
        grasped, held: bool [B], so far in the episode.
        reward: float32 [B], of the last step.
    """

    def __init__(self, num_envs: int, device: torch.device) -> None:
        self.grasped = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.held = self.grasped.clone()
        self.reward = torch.zeros(num_envs, device=device)
        self._stage = self.reward.clone()
        self._row = torch.zeros(num_envs, dtype=torch.int32, device=device)
        self._step = self._row.clone()

    def reset(self, env_idx: torch.Tensor) -> None:
        """Begin new episodes."""
        for state in (self.grasped, self.held, self.reward, self._stage, self._row, self._step):
            state[env_idx] = 0

    def update(self, step: torch.Tensor, grasping: torch.Tensor, success: torch.Tensor) -> None:
        """Count a control step, once however often it is looked at.

        Args:
            step: int [B], steps so far in each episode.
            grasping: bool [B], the gripper holds the object now.
            success: bool [B], the object lies on the plate now.
        """
        new = step > self._step
        self._step = torch.where(new, step, self._step)
        self._row = torch.where(new, (self._row + 1) * grasping, self._row)
        self.grasped = self.grasped | new & grasping
        self.held = self.held | (self._row >= HELD_STEPS)
        stage = 0.1 * self.grasped + 0.1 * self.held + 1.0 * (success & self.grasped)
        self.reward = torch.where(new, stage - self._stage, self.reward)
        self._stage = torch.where(new, stage, self._stage)
