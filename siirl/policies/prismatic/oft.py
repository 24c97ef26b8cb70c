"""What OpenVLA-OFT's policies share, whether they predict action tokens or regress actions: proprioception."""

import numpy as np
import torch

from siirl.config.schema import EmbodiedConfig
from siirl.envs.base import EnvObs
from siirl.policies.base import PolicyInputs
from siirl.policies.prismatic.actions import Bounds
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.parallel import PrismaticOFT
from siirl.policies.prismatic.policy import PrismaticPolicy


class OFTPolicy(PrismaticPolicy):
    """`PrismaticPolicy` whose network may see the robot's state; its arguments are the same."""

    model: PrismaticOFT

    def __init__(self, model: PrismaticOFT, checkpoint: Checkpoint, embodied: EmbodiedConfig, dtype: str) -> None:
        super().__init__(model, checkpoint, embodied, dtype)
        self.use_proprio = bool(checkpoint.config.get("use_proprio", False))
        self.proprio_bounds = self._proprio_bounds(checkpoint.config["proprio_dim"]) if self.use_proprio else None

    def prepare(self, obs: EnvObs) -> PolicyInputs:
        """As `PrismaticPolicy.prepare`; when the checkpoint uses proprioception also ``proprio`` float32 [B, D] in [−1, 1]."""
        inputs = super().prepare(obs)
        if self.proprio_bounds is not None:
            proprio = torch.from_numpy(self.proprio_bounds.normalise(obs.states).astype(np.float32))
            inputs["proprio"] = proprio.to(self.device, non_blocking=True)
        return inputs

    def _proprio_bounds(self, proprio_dim: int) -> Bounds:
        bounds = self.bounds("proprio") if "proprio" in self.statistics else None
        if bounds is None or len(bounds.low) != proprio_dim:
            raise ValueError(
                f"the checkpoint has use_proprio with proprio_dim {proprio_dim}, from its config.json or from the files beside "
                f"its weights, but its dataset statistics describe {0 if bounds is None else len(bounds.low)} proprioceptive "
                "values; add them under 'proprio', or correct proprio_dim or use_proprio."
            )
        return bounds
