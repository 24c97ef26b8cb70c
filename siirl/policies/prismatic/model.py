"""OpenVLA-OFT's network with parallel decoding (Kim, Finn, Liang 2025): one forward yields all action tokens' logits."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRotaryEmbedding

from siirl.policies.prismatic.vision import VisionBackbone

STOP_TOKEN = 2  # Llama's end of sequence; the published code closes the action block with it


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


class ProprioProjector(nn.Module):
    """Normalised proprioception [B, D] → one word embedding [B, H]."""

    def __init__(self, proprio_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(proprio_dim, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, proprio: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(proprio)))


class PrismaticOFT(nn.Module):
    """Vision backbones, projector and a Llama that attends in both directions.

    The sequence is BOS, every view's patches, one proprioception token when the config has ``use_proprio``, the rest of
    the prompt, one zero embedding per action token, and the stop token.

    Args:
        config: ``config.json`` of the checkpoint (Hugging Face layout).
        num_action_tokens: K, chunk length times action dimensions.
    """

    def __init__(self, config: dict[str, Any], num_action_tokens: int) -> None:
        super().__init__()
        text = LlamaConfig(**{**config["text_config"], "attn_implementation": "sdpa"})
        self.num_action_tokens = num_action_tokens
        self.num_bins: int = config["n_action_bins"]
        self.vocab_size = text.vocab_size - config["pad_to_multiple_of"]
        self.gradient_checkpointing = False
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(
            self.vision_backbone.embed_dim, text.hidden_size, config["use_fused_vision_backbone"]
        )
        self.language_model = LlamaForCausalLM(text)
        if config.get("use_proprio", False):
            self.proprio_projector = ProprioProjector(config["proprio_dim"], text.hidden_size)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        proprio: Tensor | None = None,
        whole_vocabulary: bool = False,
    ) -> Tensor:
        """Logits of the action tokens, float32 [B, K, 256], of the last 256 ids before the padding of the vocabulary.

        Args:
            input_ids: int64 [B, L], right padded; BOS first.
            attention_mask: bool [B, L], true for tokens, false for padding.
            pixel_values: uint8 images [B, V, S, S, 3], or already normalised pixels float32 [B, V·C, S, S].
            proprio: normalised proprioception, float32 [B, D]; needed exactly when the config has ``use_proprio``.
            whole_vocabulary: return the logits of every id instead, [B, K, vocabulary].
        """
        if pixel_values.dtype == torch.uint8:
            pixel_values = self.vision_backbone.normalise(pixel_values)
        prefix = self.projector(self.vision_backbone(pixel_values))
        if proprio is not None:
            prefix = torch.cat([prefix, self.proprio_projector(proprio)[:, None]], dim=1)
        embeddings = self._sequence(input_ids, prefix)
        hidden = self._transform(embeddings, attention_mask, prefix.shape[1])
        hidden = self._action_positions(hidden, attention_mask, prefix.shape[1])
        return self._logits(hidden, whole_vocabulary)

    def _sequence(self, input_ids: Tensor, prefix: Tensor) -> Tensor:
        """Embeddings of the whole sequence, [B, S, H]."""
        embed = self.language_model.model.embed_tokens
        words = embed(input_ids)
        stop = embed(torch.full_like(input_ids[:, :1], STOP_TOKEN))
        actions = words.new_zeros(len(words), self.num_action_tokens, words.shape[-1])
        return torch.cat([words[:, :1], prefix, words[:, 1:], actions, stop], dim=1)

    def _transform(self, hidden: Tensor, attention_mask: Tensor, prefix_length: int) -> Tensor:
        """All Llama layers. Padding lies between prompt and actions: it is never attended to and takes no position."""
        if attention_mask.all():
            mask = None  # lets the attention kernel run without one
            positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        else:
            before = attention_mask.new_ones(len(hidden), prefix_length)
            after = attention_mask.new_ones(len(hidden), self.num_action_tokens + 1)
            visible = torch.cat([attention_mask[:, :1], before, attention_mask[:, 1:], after], dim=1)
            mask = visible[:, None, None]
            positions = visible.long().cumsum(dim=1) - 1
        llama = self.language_model.model
        rotary = llama.rotary_emb(hidden, position_ids=positions)
        for layer in llama.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(
                    layer, hidden, mask, position_embeddings=rotary, is_causal=False, use_reentrant=False
                )
            else:
                hidden = layer(hidden, mask, position_embeddings=rotary, is_causal=False)
        return hidden

    def _action_positions(self, hidden: Tensor, attention_mask: Tensor, prefix_length: int) -> Tensor:
        """Final states that predict the K action tokens: a position predicts its successor, as in causal language
        models, so the last prompt token predicts the first action token. [B, S, H] → [B, K, H]"""
        rows = torch.arange(len(hidden), device=hidden.device)
        last_prompt = hidden[rows, prefix_length + attention_mask.sum(dim=1) - 1]
        first_action = hidden.shape[1] - 1 - self.num_action_tokens
        picked = torch.cat([last_prompt[:, None], hidden[:, first_action:-2]], dim=1)
        return self.language_model.model.norm(picked)

    def _logits(self, hidden: Tensor, whole_vocabulary: bool) -> Tensor:
        """The head in float32 even under autocast: rounding logits to bf16 would blur log-probs by several percent."""
        weight = self.language_model.lm_head.weight
        if not whole_vocabulary:
            weight = weight[self.vocab_size - self.num_bins : self.vocab_size]
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.float(), weight.float())

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of Llama layers and vision blocks in the backward pass."""
        self.gradient_checkpointing = True
        for featurizer in self.vision_backbone.featurizers:
            featurizer.set_grad_checkpointing(True)

    def restore_buffers(self, device: torch.device) -> None:
        """Compute the rotary frequencies, the only buffers and in no checkpoint; needed after building on ``meta``."""
        llama = self.language_model.model
        llama.rotary_emb = LlamaRotaryEmbedding(config=llama.config).to(device)
