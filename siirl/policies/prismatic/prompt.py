"""OpenVLA's prompt and its tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from siirl.policies.prismatic.loading import Checkpoint

TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
SUFFIX_TOKEN = 29871  # Llama's "▁": the published models always saw it between "Out:" and the action


class Prompts:
    """Instructions → token ids, each tokenised once.

    Args:
        checkpoint: its config may name another ``prompt_suffix_token_id`` for a tokenizer that is not Llama's.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tokenizer = checkpoint.tokenizer
        self._suffix: int = checkpoint.config.get("prompt_suffix_token_id", SUFFIX_TOKEN)
        self._pad: int = checkpoint.config["pad_token_id"]
        self._known: dict[str, list[int]] = {}

    def tokens(self, instruction: str) -> list[int]:
        """Ids of the whole prompt, BOS first and the suffix token last."""
        if instruction not in self._known:
            assert self._tokenizer is not None, "a policy built without a tokenizer cannot read prompts"
            ids = self._tokenizer.encode(TEMPLATE.format(instruction=instruction.lower())).ids
            self._known[instruction] = ids if ids[-1] == self._suffix else [*ids, self._suffix]
        return self._known[instruction]

    def batch(self, instructions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Right-padded ids int64 [B, L] and mask bool [B, L], true for tokens."""
        rows = [self.tokens(instruction) for instruction in instructions]
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        ids = torch.tensor([row + [self._pad] * (longest - len(row)) for row in rows])
        return ids, torch.arange(longest) < lengths[:, None]
