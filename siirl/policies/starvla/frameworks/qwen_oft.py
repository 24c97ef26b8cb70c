"""QwenOFT: T places in the prompt stand for the actions of a chunk, and an MLP regresses each from its hidden state.

Published in github.com/starVLA/starVLA; the head is that of Kim, Finn, Liang (2025), *Fine-Tuning Vision-Language-Action Models:
Optimizing Speed and Success*, with one place for each action instead of one for each of its dimensions.
"""

import torch
from torch import Tensor, nn

from siirl.policies.residual_mlp import ResidualMLP
from siirl.policies.starvla.framework import FRAMEWORKS, Framework
from siirl.policies.starvla.network import Read, StarVLANetwork
from siirl.policies.starvla.settings import StarVLASettings
from siirl.policies.starvla.vlm import VLM


class RegressionHead(nn.Module):
    """States [B, T, H] → actions [B, T, D], every action by itself, through layers 2·H wide."""

    def __init__(self, hidden_size: int, action_dim: int) -> None:
        super().__init__()
        self.model = ResidualMLP(hidden_size, 2 * hidden_size, action_dim)

    def forward(self, states: Tensor) -> Tensor:
        return self.model(states)


class QwenOFTNetwork(StarVLANetwork):
    """`StarVLANetwork` with the regression head under its published name."""

    def __init__(
        self, vlm: VLM, settings: StarVLASettings, action_token: int, backbone: nn.Module | None = None
    ) -> None:
        super().__init__(vlm, settings, action_token, backbone)
        self.action_model = RegressionHead(self.hidden_size, self.action_dim)

    def read(self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Read:
        """From the last T action tokens; an instruction may hold more of them."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        places = torch.where(input_ids == self.action_token, positions, -1).topk(self.chunk_len).values.flip(1)
        states = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[2]))
        with torch.autocast(hidden.device.type, enabled=False):
            return Read(self.action_model(states.float()), states[:, 0])


@FRAMEWORKS.register("QwenOFT")
class QwenOFT(Framework):
    """The framework; its arguments are those of `Framework`."""

    action_token = "🔍"
    network = QwenOFTNetwork

    @classmethod
    def suffix(cls, chunk_len: int) -> str:
        """The request for T actions, with a token for each."""
        places = cls.action_token * chunk_len  # without spaces, which would make other tokens of them
        return f" Please predict the next {chunk_len} robot actions: <action>{places}<action>."
