"""OpenVLA's network (Kim et al. 2024, *OpenVLA*): action tokens are predicted one after the other, as words are."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from siirl.policies.prismatic.model import KeyValues, Prediction, PrismaticVLA, after_bos, positions_of

Choose = Callable[[Tensor, int], Tensor]
"""Logits of every id float32 [B, vocabulary] and the step in [0, K) → ids int64 [B]."""


class Decoded(NamedTuple):
    """Ids int64 [B, K], the action ids' logits float32 [B, K, 256], and values as in `Prediction`."""

    ids: Tensor
    logits: Tensor
    values: Tensor | None


class PrismaticCausal(PrismaticVLA):
    """The Llama attends backwards only. The sequence is BOS, every view's patches, the rest of the prompt, and the action
    tokens, of which each is predicted by its predecessor.

    Values are read from the prompt's last state, which predicts the first action token: later ones have seen what was drawn.
    """

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, action_tokens: Tensor
    ) -> Prediction:
        """Logits of the action tokens given those before them (teacher forcing), [B, K, 256], of the last 256 ids before
        the padding of the vocabulary; and values.

        Args:
            input_ids: int64 [B, L], right padded; BOS first.
            attention_mask: bool [B, L], true for tokens, false for padding.
            pixel_values: uint8 images [B, V, S, S, 3], or already normalised pixels float32 [B, V·C, S, S].
            action_tokens: ids int64 [B, K]; the last of them is not looked at.
        """
        prompt, visible, last = self._prompt(input_ids, attention_mask, pixel_values)
        actions = self.language_model.model.embed_tokens(action_tokens[:, :-1])
        visible = F.pad(visible, (0, actions.shape[1]), value=True)
        hidden = torch.cat([prompt, actions], dim=1)
        hidden = self.transform(hidden, causal_mask(visible), positions_of(visible), is_causal=True)
        first = _pick(hidden, last)
        picked = torch.cat([first, hidden[:, prompt.shape[1] :]], dim=1)
        return Prediction(self.logits(picked, whole_vocabulary=False), self.values(first[:, 0]))

    @torch.no_grad()
    def value(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """The values of `forward`, without actions: from images and prompt alone."""
        hidden, visible, last = self._prompt(input_ids, attention_mask, pixel_values)
        hidden = self.transform(hidden, causal_mask(visible), positions_of(visible), is_causal=True)
        values = self.values(_pick(hidden, last)[:, 0])
        assert values is not None, "there is no value head"
        return values

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, choose: Choose) -> Decoded:
        """Decode K tokens. Keys and values of images and prompt are computed once, then those of one token at a time.

        Args:
            input_ids, attention_mask, pixel_values: as in `forward`.
            choose: picks each token from its logits.

        Returns:
            What was chosen; logits and values are those of `forward` with these ids.
        """
        hidden, visible, last = self._prompt(input_ids, attention_mask, pixel_values)
        # The last token is not added. One more to spare, as compiled code would be made anew for a cache that is full.
        length = visible.shape[1] + self.num_action_tokens
        caches = [KeyValues(length) for _ in self.language_model.model.layers]
        hidden = self.transform(hidden, causal_mask(visible), positions_of(visible), caches, is_causal=True)
        state = _pick(hidden, last)
        values = self.values(state[:, 0])
        tokens: list[Tensor] = []
        logits: list[Tensor] = []
        for step in range(self.num_action_tokens):
            if step > 0:
                visible = F.pad(visible, (0, 1), value=True)
                word = self.language_model.model.embed_tokens(tokens[-1][:, None])
                mask = None if visible.all() else visible[:, None, None]
                state = self.transform(word, mask, visible.sum(dim=1, keepdim=True) - 1, caches)
            every = self.logits(state, whole_vocabulary=True)[:, 0]
            tokens.append(choose(every, step))
            logits.append(every[:, self.first_action_id : self.vocab_size])
        return Decoded(torch.stack(tokens, dim=1), torch.stack(logits, dim=1), values)

    def _prompt(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings [B, S, H] of images and prompt, which of them are visible, bool [B, S], and the index of the last
        visible one, int64 [B]."""
        prefix = self.patches(pixel_values)
        visible = after_bos(attention_mask, attention_mask.new_ones(prefix.shape[:2]))
        return after_bos(self.language_model.model.embed_tokens(input_ids), prefix), visible, visible.sum(dim=1) - 1


def causal_mask(visible: Tensor) -> Tensor | None:
    """bool [B, 1, S, S], true where a query (row) may attend to a key; None where nothing is padded, bool [B, S] all true."""
    if visible.all():
        return None
    length = visible.shape[1]
    return visible[:, None, None] & visible.new_ones(length, length).tril()


def _pick(hidden: Tensor, index: Tensor) -> Tensor:
    """One state of each row, [B, S, H] → [B, 1, H]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), index][:, None]
