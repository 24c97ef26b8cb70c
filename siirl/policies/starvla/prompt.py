"""Instructions as a StarVLA framework puts them: in the base model's chat template, behind the images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siirl.policies.starvla.settings import PLACE, StarVLASettings
from siirl.policies.starvla.vlm import VLM

STATE_BINS = 256
"""Intervals of a state's values in [−1, 1], where the prompt tells the state."""


def action_token_id(vlm: VLM, token: str) -> int:
    """The id of the word that stands for an action.

    Raises:
        ValueError: the tokenizer makes several tokens of it, or knows none.
    """
    ids = vlm.processor.tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"the tokenizer in {vlm.folder} splits the action token {token!r} into {len(ids)} tokens, {list(ids)}; one is "
            "needed, whose hidden state is an action. Use the tokenizer of the base model that the policy was trained with."
        )
    return int(ids[0])


def state_words(state: np.ndarray) -> str:
    """A state [D] as numbers of bins; −1 below [−1, 1]. StarVLA trains with half precision."""
    edges = np.linspace(-1, 1, STATE_BINS + 1)[:-1]
    return " ".join(str(number) for number in np.digitize(state.astype(np.float16), edges) - 1)


def state_vocabulary() -> list[str]:
    """Every word that prompts tell states with."""
    return ["[STATE]", "[ACTION]", *(str(number) for number in range(-1, STATE_BINS))]


class Prompts:
    """Texts → token ids, of one framework and base model. What does not depend on a state is tokenised once.

    Args:
        suffix: what the framework appends to an instruction.
    """

    def __init__(self, vlm: VLM, settings: StarVLASettings, suffix: str) -> None:
        self._vlm, self._settings, self._suffix = vlm, settings, suffix
        self._tokenizer: Any = vlm.processor.tokenizer
        self._pad: int = self._tokenizer.pad_token_id
        self._image_token: str = vlm.processor.image_token
        self._known: dict[tuple[str, tuple[int, ...]], list[int]] = {}

    def text(self, instruction: str, views: int, state: np.ndarray | None = None) -> str:
        """The whole prompt, with one image token for each of ``views`` images.

        Args:
            state: float [D], where the settings have a ``state_dim``.
        """
        if state is not None:
            instruction = f"{instruction} [STATE] {state_words(state)} [ACTION]"
        asked = instruction + self._suffix
        if self._settings.instruction is not None:
            asked = self._settings.instruction.replace(PLACE, asked)
        content: list[dict[str, str]] = [{"type": "image"}] * views + [{"type": "text", "text": asked}]
        messages = [{"role": "user", "content": content}]
        text = self._vlm.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return text

    def tokens(self, instruction: str, words: Sequence[int], state: np.ndarray | None = None) -> list[int]:
        """Ids of the whole prompt.

        Args:
            words: image tokens of each view.
            state: see `text`.
        """
        key = (instruction, tuple(words))
        if state is not None:
            return self._encode(self.text(instruction, len(words), state), words)
        if key not in self._known:
            self._known[key] = self._encode(self.text(instruction, len(words)), words)
        return self._known[key]

    def length(self, instruction: str, views: int) -> int:
        """Tokens of a prompt, image tokens not counted; the longest that a state can make it."""
        dim = self._settings.state_dim
        return len(self.tokens(instruction, [0] * views, None if dim is None else np.ones(dim)))

    def batch(
        self, instructions: Sequence[str], words: Sequence[Sequence[int]], states: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Left-padded ids int64 [B, L] and mask bool [B, L], true for tokens; ``states`` is float [B, D] or None."""
        given = [None] * len(instructions) if states is None else list(states)
        rows = [self.tokens(*row) for row in zip(instructions, words, given, strict=True)]
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        ids = torch.tensor([[self._pad] * (longest - len(row)) + row for row in rows])
        return ids, torch.arange(longest) >= longest - lengths[:, None]

    def _encode(self, text: str, words: Sequence[int]) -> list[int]:
        parts = text.split(self._image_token)
        if len(parts) != len(words) + 1:
            raise ValueError(
                f"the chat template in {self._vlm.folder} makes {len(parts) - 1} image tokens of {len(words)} images and the "
                f"instruction; an instruction must not contain {self._image_token!r}, and the template must be the base model's."
            )
        whole = "".join(self._image_token * n + part for n, part in zip(words, parts[1:], strict=True))
        ids = self._tokenizer(parts[0] + whole, add_special_tokens=self._adds_special(text))["input_ids"]
        return list(ids)

    def _adds_special(self, text: str) -> bool:
        """Qwen3-VL's way through the processor does not put a second BOS before that of the template."""
        bos = self._tokenizer.bos_token
        return self._vlm.is_qwen2_5 or bos is None or not text.startswith(bos)
