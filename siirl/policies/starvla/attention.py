"""Attention of Qwen-VL's vision towers, all windows at once.

An image's patches attend within windows (Qwen2.5-VL) or within the image, and images of a batch lie side by side in one sequence.
transformers runs a kernel for each window; here equal ones, as camera images of one size have, are a batch of one kernel.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention, apply_rotary_pos_emb_vision
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention


class Qwen2_5Windows(Qwen2_5_VLVisionAttention):  # noqa: N801  (the model's name)
    """Of Qwen2.5-VL."""

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, *others: Any, **named: Any) -> Tensor:
        """Patches of all images [S, E] → [S, E]; windows end at ``cu_seqlens`` [windows + 1]."""
        found = _at_once(self, hidden_states, cu_seqlens, named["position_embeddings"])
        return super().forward(hidden_states, cu_seqlens, *others, **named) if found is None else found


class Qwen3Windows(Qwen3VLVisionAttention):
    """Of Qwen3-VL, whose windows are whole images."""

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, *others: Any, **named: Any) -> Tensor:
        """See `Qwen2_5Windows`."""
        found = _at_once(self, hidden_states, cu_seqlens, named["position_embeddings"])
        return super().forward(hidden_states, cu_seqlens, *others, **named) if found is None else found


def _at_once(layer: Any, hidden: Tensor, ends: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor | None:
    """[S, E] → [S, E]; None where windows are of different length."""
    lengths = ends.diff().tolist()
    if len(set(lengths)) > 1:
        return None
    query, key, value = layer.qkv(hidden).view(len(hidden), 3, layer.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *rotary)
    query, key, value = (x.unflatten(0, (len(lengths), lengths[0])).transpose(1, 2) for x in (query, key, value))
    found = F.scaled_dot_product_attention(query, key, value, scale=layer.scaling)
    return layer.proj(found.transpose(1, 2).reshape(len(hidden), -1))


BATCHED: dict[type[nn.Module], type[nn.Module]] = {
    Qwen2_5_VLVisionAttention: Qwen2_5Windows,
    Qwen3VLVisionAttention: Qwen3Windows,
}


def batch_windows(network: nn.Module) -> None:
    """Let every vision attention of ``network`` run its windows at once, in place."""
    for module in network.modules():
        if type(module) in BATCHED:
            module.__class__ = BATCHED[type(module)]
