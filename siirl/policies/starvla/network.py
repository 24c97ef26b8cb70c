"""What the networks of all StarVLA frameworks share: a Qwen-VL by its published parameter names, and what RL adds to it."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from siirl.policies.gaussian import ActionNoise
from siirl.policies.starvla.attention import batch_windows
from siirl.policies.starvla.settings import StarVLASettings
from siirl.policies.starvla.vlm import VLM
from siirl.policies.value_head import ValueHead


class Regression(NamedTuple):
    """What a forward gives.

    Attributes:
        mean: normalised actions float32 [B, T, D], not clipped.
        std: the spread around them, float32 [D] or [1]; None where none was added.
        values: float32 [B, V]; None without a value head.
    """

    mean: Tensor
    std: Tensor | None
    values: Tensor | None


class Read(NamedTuple):
    """What a framework reads from the hidden states: normalised actions float32 [B, T, D], and the state [B, H] at the first
    place of action."""

    actions: Tensor
    first: Tensor


class VLMInterface(nn.Module):
    """Holds the base model under the name that StarVLA gives it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class StarVLANetwork(nn.Module, ABC):
    """Base model and action head; a framework says what it reads.

    Args:
        vlm: the base model's config.
        settings: sizes of actions.
        backbone: the base model with its weights; None: one with random weights.
        action_token: the id that stands for an action.
    """

    float32_parts: ClassVar[tuple[str, ...]] = (
        "qwen_vl_interface.model.lm_head",
        "action_model",
        "value_head",
        "action_noise",
    )
    """Modules that compute in float32 even under autocast, or not at all."""

    def __init__(
        self, vlm: VLM, settings: StarVLASettings, action_token: int, backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.hidden_size, self.tied = vlm.hidden_size, vlm.tied
        self.image_token: int = vlm.config.image_token_id
        self.action_token = action_token
        self.chunk_len, self.action_dim = settings.chunk_len, settings.action_dim
        self.value_head: ValueHead | None = None  # added to what is loaded, as is the spread
        self.action_noise: ActionNoise | None = None
        self.qwen_vl_interface = VLMInterface(vlm.build() if backbone is None else backbone)
        batch_windows(self.qwen_vl_interface)

    @abstractmethod
    def read(self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Read:
        """Actions from the last hidden states [B, L, H], float32 even under autocast."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, image_grid_thw: Tensor
    ) -> Regression:
        """One forward of base model and head.

        Args:
            input_ids: int64 [B, L]; padding may lie on either side.
            attention_mask: bool [B, L], true for tokens.
            pixel_values: float32 [P, K], patches of all images (`siirl.policies.starvla.images.Images.patches`).
            image_grid_thw: int64 [N, 3], the grid of each image in order.
        """
        hidden = self.hidden_states(input_ids, attention_mask, pixel_values, image_grid_thw)
        found = self.read(hidden, input_ids, attention_mask)
        std = None if self.action_noise is None else self.action_noise()
        return Regression(found.actions, std, self._values(hidden, found.first, attention_mask))

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, image_grid_thw: Tensor
    ) -> Tensor:
        """Of every token, behind the final norm, [B, L, H]; the output head is left out."""
        backbone: Any = self.qwen_vl_interface.model.model
        return backbone(
            input_ids=input_ids,
            attention_mask=attention_mask.long(),
            pixel_values=pixel_values,
            image_grid_thw=image_grid_thw,
            mm_token_type_ids=(input_ids == self.image_token).int(),
            use_cache=False,
        ).last_hidden_state

    def _values(self, hidden: Tensor, first: Tensor, attention_mask: Tensor) -> Tensor | None:
        if self.value_head is None:
            return None
        if self.value_head.position == "first_action":
            return self.value_head(first)
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        last = (positions * attention_mask).argmax(dim=1)
        return self.value_head(hidden[torch.arange(len(hidden), device=hidden.device), last])

    def halved_by_autocast(self) -> set[str]:
        """Names of the parameters that autocast casts for every product: those of linear layers and convolutions. They may
        rest in its dtype, and nothing that it computes changes."""
        exempt = tuple(f"{part}." for part in self.float32_parts)
        return {
            f"{layer}.{name}"
            for layer, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.Conv3d) and not f"{layer}.".startswith(exempt)
            for name, _ in module.named_parameters(recurse=False)
        }

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of language layers and vision blocks in the backward pass."""
        for layer in self._layers():
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "StarVLANetwork":
        """As of any module; but transformers' layers are checkpointed only in training mode. All that it changes in them is
        dropout, which no Qwen-VL has, and it changes that in their parts, which are left in the mode that was asked for."""
        super().train(mode)
        for layer in self._layers():
            layer.training = mode or layer.gradient_checkpointing
        return self

    def compile_blocks(self) -> None:
        """Compile the language model's layers in place. The vision blocks loop over windows, whose number is data."""
        backbone: Any = self.qwen_vl_interface.model.model
        for layer in backbone.language_model.layers:
            layer.compile(dynamic=True, fullgraph=True)

    def restore(self, device: torch.device) -> None:
        """Compute the rotary frequencies, the only buffers and in no checkpoint, and tie what is tied; needed after parameters
        were given to what was built on ``meta``."""
        for parent in list(self.modules()):
            for name, module in list(parent.named_children()):
                if any(True for _ in module.buffers(recurse=False)):
                    made: Any = type(module)
                    setattr(parent, name, made(module.config).to(device))
        if self.tied:
            model: Any = self.qwen_vl_interface.model
            model.lm_head.weight = model.model.language_model.embed_tokens.weight

    def _layers(self) -> list[Any]:
        return [module for module in self.modules() if isinstance(module, GradientCheckpointingLayer)]
