"""OpenVLA-OFT's L1 regression head (Kim, Finn, Liang 2025, "continuous actions"), by its published parameter names."""

from typing import Any

import torch
from torch import Tensor, nn

from siirl.policies.prismatic.parallel import PrismaticOFT
from siirl.policies.residual_mlp import ResidualMLP

ACTION_DIM = 7  # of those for LIBERO, whose config does not state it


class L1ActionHead(nn.Module):
    """States of an action's D tokens, side by side → the action: [B, T·D, H] → [B, T, D], every action by itself."""

    def __init__(self, hidden_size: int, action_dim: int) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.model = ResidualMLP(hidden_size * action_dim, hidden_size, action_dim)

    def forward(self, states: Tensor) -> Tensor:
        batch, tokens, width = states.shape
        return self.model(states.reshape(batch, tokens // self.action_dim, self.action_dim * width))


class PrismaticRegression(PrismaticOFT):
    """`PrismaticOFT` that reads a chunk from the states of its action tokens, where the other one predicts the tokens.

    The Llama's own head stays, unused: the published weights have it.
    """

    float32_parts = (*PrismaticOFT.float32_parts, "action_head")

    def __init__(self, config: dict[str, Any], num_action_tokens: int) -> None:
        super().__init__(config, num_action_tokens)
        action_dim = config.get("action_token_len", ACTION_DIM)
        self.action_head = L1ActionHead(self.language_model.config.hidden_size, action_dim)

    def regress(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, proprio: Tensor | None = None
    ) -> Tensor:
        """Normalised actions float32 [B, T, D]. They are not clipped, so they may lie outside of [−1, 1].

        The head reads the states *after* the Llama's final norm, and is in float32 even under autocast: bf16 would round
        actions to 8 bits. Arguments: see `PrismaticOFT.action_states`.
        """
        states = self.action_states(input_ids, attention_mask, pixel_values, proprio)
        normed = self.language_model.model.norm(states)
        with torch.autocast(normed.device.type, enabled=False):
            return self.action_head(normed.float())
