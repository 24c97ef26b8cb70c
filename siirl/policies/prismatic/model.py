"""What the networks of OpenVLA and OpenVLA-OFT share: vision, projector and Llama (Kim et al. 2024, *OpenVLA*)."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRotaryEmbedding

from siirl.policies.prismatic.vision import VisionBackbone
from siirl.policies.value_head import ValueHead

VARIANTS = 32
"""Most versions of a block's compiled code. There are 12 for Llama's: one row or several, with a mask or without, each for
training, a whole sequence, and one more token of it; and one for each two sizes that happen to be equal."""


class Prediction(NamedTuple):
    """What a forward gives: logits of the action tokens, float32 [B, K, ids], and values float32 [B, V], None without a
    value head."""

    logits: Tensor
    values: Tensor | None


class Projector(nn.Module):
    """Vision features → word embeddings: two layers for one backbone, three for two."""

    def __init__(self, vision_dim: int, hidden_size: int, fused: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_dim, 4 * vision_dim if fused else hidden_size)
        self.fc2 = nn.Linear(self.fc1.out_features, hidden_size)
        self.fc3 = nn.Linear(hidden_size, hidden_size) if fused else None

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.fc2(F.gelu(self.fc1(features)))
        return hidden if self.fc3 is None else self.fc3(F.gelu(hidden))


class RMSNorm(nn.Module):
    """Llama's norm under its published name, rounded to autocast's dtype once and not again for each projection behind it."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        normed = F.rms_norm(hidden.float(), self.weight.shape, self.weight, self.eps)
        device = hidden.device.type
        return normed.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else normed


class KeyValues:
    """Keys and values of one layer, written in place; the part of a cache that Llama's attention needs.

    One for each layer, and none that knows which: compiled code is then the same for all layers.

    Args:
        length: most tokens that it will hold.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._tensors: tuple[Tensor, Tensor] | None = None
        self._end = 0

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Append [B, heads, S, D]; returns all so far. Llama tells the ``layer`` too, which is not looked at.

        Under autocast the rotary embedding leaves keys in float32; attention rounds them to the values' dtype anyway.
        """
        if self._tensors is None:
            room = (*values.shape[:2], self._length, values.shape[3])
            self._tensors = values.new_empty(room), values.new_empty(room)
        all_keys, all_values = self._tensors
        start, self._end = self._end, self._end + keys.shape[2]
        all_keys[:, :, start : self._end], all_values[:, :, start : self._end] = keys, values
        return all_keys[:, :, : self._end], all_values[:, :, : self._end]


class PrismaticVLA(nn.Module):
    """Vision backbones, projector and a Llama, by their published parameter names; a subclass says how they decode.

    Args:
        config: ``config.json`` of the checkpoint (Hugging Face layout).
        num_action_tokens: K, chunk length times action dimensions.
    """

    float32_parts: ClassVar[tuple[str, ...]] = ("language_model.lm_head", "value_head")
    """Modules that compute in float32 even under autocast."""

    def __init__(self, config: dict[str, Any], num_action_tokens: int) -> None:
        super().__init__()
        text = LlamaConfig(**{**config["text_config"], "attn_implementation": "sdpa"})
        self.num_action_tokens = num_action_tokens
        self.num_bins: int = config["n_action_bins"]
        self.vocab_size = text.vocab_size - config["pad_to_multiple_of"]
        self.gradient_checkpointing = False
        self.value_head: ValueHead | None = None  # added to what is loaded, see `siirl.policies.value_head`
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(
            self.vision_backbone.embed_dim, text.hidden_size, config["use_fused_vision_backbone"]
        )
        self.language_model = LlamaForCausalLM(text)
        for layer in self.language_model.model.layers:
            for name in ("input_layernorm", "post_attention_layernorm"):
                setattr(layer, name, RMSNorm(getattr(layer, name).weight, text.rms_norm_eps))

    @property
    def hidden_size(self) -> int:
        """H, the width of the Llama."""
        return self.language_model.config.hidden_size

    @property
    def first_action_id(self) -> int:
        """The id of bin 0; the action ids are the last before the padding of the vocabulary."""
        return self.vocab_size - self.num_bins

    def patches(self, pixel_values: Tensor) -> Tensor:
        """Word embeddings of every view's patches, [B, P, H].

        Args:
            pixel_values: uint8 images [B, V, S, S, 3], or already normalised pixels float32 [B, V·C, S, S].
        """
        if pixel_values.dtype == torch.uint8:
            pixel_values = self.vision_backbone.normalise(pixel_values)
        return self.projector(self.vision_backbone(pixel_values))

    def transform(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        caches: Sequence[KeyValues] | None = None,
        **attention: Any,
    ) -> Tensor:
        """All Llama layers, without the final norm, [B, S, H] → [B, S, H].

        Args:
            mask: bool, broadcast to [B, heads, S, keys], true where attention is allowed; None lets the attention
                kernel run without one.
            positions: int64 [B or 1, S], for the rotary embedding.
            caches: one per layer, which ``hidden`` goes on from and is added to; not with a gradient.
            attention: passed on to every layer: ``is_causal``, which counts without a mask.
        """
        llama = self.language_model.model
        rotary = llama.rotary_emb(hidden, position_ids=positions)
        for layer, cache in zip(llama.layers, caches or repeat(None, len(llama.layers)), strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, mask, position_embeddings=rotary, **attention, use_reentrant=False)
            else:
                hidden = layer(hidden, mask, position_embeddings=rotary, past_key_values=cache, **attention)
        return hidden

    def logits(self, hidden: Tensor, whole_vocabulary: bool) -> Tensor:
        """Final norm and head: [B, K, H] → logits of the action ids, or of every id, float32.

        The head is in float32 even under autocast: rounding logits to bf16 would blur log-probs by several percent.
        """
        hidden = self.language_model.model.norm(hidden)
        weight = self.language_model.lm_head.weight
        if not whole_vocabulary:
            weight = weight[self.first_action_id : self.vocab_size]
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.float(), weight.float())

    def values(self, state: Tensor) -> Tensor | None:
        """Final norm and value head: one state of each row [B, H] → values float32 [B, V]; None without a head.

        Behind the norm, states are of one scale whatever the depth, and it is what the action logits are read from too.
        """
        return None if self.value_head is None else self.value_head(self.language_model.model.norm(state))

    def halved_by_autocast(self) -> set[str]:
        """Names of the parameters that autocast casts for every product: those of linear layers and convolutions. They may
        rest in its dtype, and nothing that it computes changes."""
        exempt = tuple(f"{part}." for part in self.float32_parts)
        return {
            f"{layer}.{name}"
            for layer, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and not f"{layer}.".startswith(exempt)
            for name, _ in module.named_parameters(recurse=False)
        }

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of Llama layers and vision blocks in the backward pass."""
        self.gradient_checkpointing = True
        for featurizer in self.vision_backbone.featurizers:
            featurizer.set_grad_checkpointing(True)

    def compile_blocks(self) -> None:
        """Compile Llama layers and vision blocks in place, so that parameters keep their names; at their first use.

        Blocks of one kind share their code. Its sizes are dynamic from the start: code made for the sizes met first, and
        others later, would make the rounding of a run depend on its history. What cannot be compiled is an error.
        """
        from torch._dynamo import config  # takes seconds, and most runs do without

        config.recompile_limit = max(config.recompile_limit, VARIANTS)
        layers = [*self.language_model.model.layers]
        for block in [*layers, *(block for f in self.vision_backbone.featurizers for block in f.blocks)]:
            block.compile(dynamic=True, fullgraph=True)

    def restore_buffers(self, device: torch.device) -> None:
        """Compute the rotary frequencies, the only buffers and in no checkpoint; needed after building on ``meta``."""
        llama = self.language_model.model
        llama.rotary_emb = LlamaRotaryEmbedding(config=llama.config).to(device)


def after_bos(embeddings: Tensor, inserted: Tensor) -> Tensor:
    """[B, L, ...] with [B, P, ...] put in after the first token → [B, P + L, ...]; for embeddings and for masks."""
    return torch.cat([embeddings[:, :1], inserted, embeddings[:, 1:]], dim=1)


def positions_of(visible: Tensor) -> Tensor:
    """Positions int64 [B, S] of a bool mask [B, S]: padding takes none, so it may lie anywhere."""
    return visible.long().cumsum(dim=1) - 1
