"""Attention of Qwen-VL's vision towers, all windows at once.

An image's patches attend within windows (Qwen2.5-VL) or within the image, and images of a batch lie side by side in one sequence.
transformers runs a kernel for each window; here equal ones, as camera images of one size have, are a batch of one kernel.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention, apply_rotary_pos_emb_vision
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention


class _Windows(nn.Module):
    """Replaces the forward of the class behind it; parameters are the same."""

    qkv: nn.Linear
    proj: nn.Linear
    num_heads: int
    scaling: float

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, **arguments: Any) -> Tensor:
        """Patches of all images [S, E] → [S, E]; windows end at ``cu_seqlens`` [windows + 1]."""
        lengths = cu_seqlens.diff().tolist()
        if len(set(lengths)) > 1:
            return super().forward(hidden_states, cu_seqlens, **arguments)
        heads = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
        query, key, value = heads.unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *arguments["position_embeddings"])
        windows = [x.unflatten(0, (len(lengths), lengths[0])).transpose(1, 2) for x in (query, key, value)]
        found = F.scaled_dot_product_attention(*windows, scale=self.scaling)
        return self.proj(found.transpose(1, 2).reshape(len(hidden_states), -1))


class Qwen2_5Windows(_Windows, Qwen2_5_VLVisionAttention):  # noqa: N801  (the model's name)
    """Of Qwen2.5-VL."""


class Qwen3Windows(_Windows, Qwen3VLVisionAttention):
    """Of Qwen3-VL, whose windows are whole images."""


BATCHED: dict[type[nn.Module], type[nn.Module]] = {
    Qwen2_5_VLVisionAttention: Qwen2_5Windows,
    Qwen3VLVisionAttention: Qwen3Windows,
}


def batch_windows(network: nn.Module) -> None:
    """Let every vision attention of ``network`` run its windows at once, in place."""
    for module in network.modules():
        if type(module) in BATCHED:
            module.__class__ = BATCHED[type(module)]
