"""OpenVLA-OFT's networks with parallel decoding (Kim, Finn, Liang 2025): one forward yields a whole chunk of actions, as
logits of its action tokens or as numbers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from siirl.policies.prismatic.model import Prediction, PrismaticVLA, after_bos, positions_of

STOP_TOKEN = 2  # Llama's end of sequence; the published code closes the action block with it


class ProprioProjector(nn.Module):
    """Normalised proprioception [B, D] → one word embedding [B, H]."""

    def __init__(self, proprio_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(proprio_dim, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, proprio: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(proprio)))


class PrismaticOFT(PrismaticVLA):
    """The Llama attends in both directions.

    The sequence is BOS, every view's patches, one proprioception token when the config has ``use_proprio``, the rest of
    the prompt, one zero embedding per action token, and the stop token.
    """

    def __init__(self, config: dict[str, Any], num_action_tokens: int) -> None:
        super().__init__(config, num_action_tokens)
        if config.get("use_proprio", False):
            hidden_size = self.language_model.config.hidden_size
            self.proprio_projector = ProprioProjector(config["proprio_dim"], hidden_size)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        proprio: Tensor | None = None,
        whole_vocabulary: bool = False,
    ) -> Prediction:
        """Logits of the action tokens, [B, K, 256], of the last 256 ids before the padding of the vocabulary; and values.

        Args:
            input_ids, attention_mask, pixel_values, proprio: see `action_states`.
            whole_vocabulary: return the logits of every id instead, [B, K, vocabulary].
        """
        states = self.action_states(input_ids, attention_mask, pixel_values, proprio)
        return Prediction(self.logits(states, whole_vocabulary), self._values_from(states))

    @torch.no_grad()
    def value(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, proprio: Tensor | None = None
    ) -> Tensor:
        """The values of `forward`, without logits. Attention sees the actions' empty places, so they are computed here too."""
        values = self._values_from(self.action_states(input_ids, attention_mask, pixel_values, proprio))
        assert values is not None, "there is no value head"
        return values

    def _values_from(self, states: Tensor) -> Tensor | None:
        """[B, K, H] of `action_states` → values: the first is of the prompt's last token, the next of the first action token."""
        if self.value_head is None:
            return None
        return self.values(states[:, 0 if self.value_head.position == "last_prompt" else 1])

    def action_states(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, proprio: Tensor | None
    ) -> Tensor:
        """States after the last Llama layer, without the final norm, at the positions of the action tokens, [B, K, H].

        Args:
            input_ids: int64 [B, L], right padded; BOS first.
            attention_mask: bool [B, L], true for tokens, false for padding.
            pixel_values: uint8 images [B, V, S, S, 3], or already normalised pixels float32 [B, V·C, S, S].
            proprio: normalised proprioception, float32 [B, D]; needed exactly when the config has ``use_proprio``.
        """
        prefix = self.patches(pixel_values)
        if proprio is not None:
            prefix = torch.cat([prefix, self.proprio_projector(proprio)[:, None]], dim=1)
        embeddings = self._sequence(input_ids, prefix)
        hidden = self._attend(embeddings, attention_mask, prefix.shape[1])
        return self._action_positions(hidden, attention_mask, prefix.shape[1])

    def _sequence(self, input_ids: Tensor, prefix: Tensor) -> Tensor:
        """Embeddings of the whole sequence, [B, S, H]."""
        # In one call, because each makes a gradient as large as the whole vocabulary.
        words = self.language_model.model.embed_tokens(F.pad(input_ids, (0, 1), value=STOP_TOKEN))
        words, stop = words[:, :-1], words[:, -1:]
        actions = words.new_zeros(len(words), self.num_action_tokens, words.shape[-1])
        return torch.cat([after_bos(words, prefix), actions, stop], dim=1)

    def _attend(self, hidden: Tensor, attention_mask: Tensor, prefix_length: int) -> Tensor:
        """All Llama layers. Padding lies between prompt and actions: it is never attended to and takes no position."""
        if attention_mask.all():
            mask, positions = None, torch.arange(hidden.shape[1], device=hidden.device)[None]
        else:
            before = attention_mask.new_ones(len(hidden), prefix_length)
            after = attention_mask.new_ones(len(hidden), self.num_action_tokens + 1)
            visible = torch.cat([after_bos(attention_mask, before), after], dim=1)
            mask, positions = visible[:, None, None], positions_of(visible)
        return self.transform(hidden, mask, positions, is_causal=False)

    def _action_positions(self, hidden: Tensor, attention_mask: Tensor, prefix_length: int) -> Tensor:
        """Final states that predict the K action tokens: a position predicts its successor, as in causal language
        models, so the last prompt token predicts the first action token. [B, S, H] → [B, K, H]"""
        rows = torch.arange(len(hidden), device=hidden.device)
        last_prompt = hidden[rows, prefix_length + attention_mask.sum(dim=1) - 1]
        first_action = hidden.shape[1] - 1 - self.num_action_tokens
        return torch.cat([last_prompt[:, None], hidden[:, first_action:-2]], dim=1)
