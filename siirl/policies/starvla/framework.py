"""A StarVLA framework: how observations become the base model's inputs, and hidden states actions. One file each in
`siirl.policies.starvla.frameworks`; ``docs/heads.md`` says what a new one must provide."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from siirl.policies.starvla.images import Images
from siirl.policies.starvla.network import StarVLANetwork
from siirl.policies.starvla.prompt import Prompts, action_token_id
from siirl.policies.starvla.settings import StarVLASettings
from siirl.policies.starvla.vlm import VLM
from siirl.registry import Registry

BASE_VLM = "framework.qwenvl.base_vlm"


class Framework(ABC):
    """Network, prompts and images of one policy.

    Args:
        vlm: the base model's folder.
        settings: what the policy's config says.
        backbone: the base model with its weights; None: one with random weights, on PyTorch's default device.

    Raises:
        ValueError: the tokenizer splits the action token.
    """

    action_token: ClassVar[str]
    """The word in the prompt that stands for an action."""
    network: ClassVar[type[StarVLANetwork]]

    def __init__(self, vlm: VLM, settings: StarVLASettings, backbone: nn.Module | None = None) -> None:
        self.vlm, self.settings = vlm, settings
        token = action_token_id(vlm, self.action_token)
        self.prompts = Prompts(vlm, settings, self.suffix(settings.chunk_len))
        self.images = Images(vlm, settings.image_size)
        self.model = self.network(vlm, settings, token, backbone).eval()

    @classmethod
    @abstractmethod
    def suffix(cls, chunk_len: int) -> str:
        """What is appended to an instruction."""

    @classmethod
    def from_config(
        cls, framework: Mapping[str, Any], base_vlm: str | Path, data: Mapping[str, Any] | None = None
    ) -> Self:
        """A policy from the config's section ``framework``, float32 on the CPU, its action head random.

        Args:
            framework: the section; its own ``qwenvl.base_vlm`` is not looked at.
            base_vlm: folder of the base model; without weights in it, these are random too.
            data: the section ``datasets.vla_data``.

        Raises:
            ValueError: a section is of another framework or malformed, the folder is absent or no Qwen-VL, or its tokenizer
                splits the action token.
        """
        settings = StarVLASettings.read(framework, data)
        if FRAMEWORKS.get(settings.name) is not cls:
            raise ValueError(f"framework.name is {settings.name!r}, but {cls.__name__} was asked for.")
        vlm = VLM.read(Path(base_vlm), "base_vlm")
        return cls(vlm, settings, vlm.load() if vlm.has_weights else None)

    def inputs(
        self, images: Sequence[Sequence[np.ndarray]], instructions: Sequence[str], states: np.ndarray | None = None
    ) -> dict[str, Tensor]:
        """What `StarVLANetwork.forward` takes, on the network's device.

        Args:
            images: for each row its views in order, uint8 [H, W, 3], RGB.
            instructions: one for each row.
            states: float [B, D], where the settings have a ``state_dim``.

        Raises:
            ValueError: rows without an instruction or image, or no images.
        """
        if len(images) != len(instructions) or not instructions or not all(len(views) for views in images):
            raise ValueError(
                f"{len(images)} rows of images, with {[len(views) for views in images]} views, and {len(instructions)} "
                "instructions were given; give both for every row, with one view at least."
            )
        device = next(self.model.parameters()).device
        resized = [[self.images.resize(view) for view in views] for views in images]
        words = [[self.images.words(view) for view in views] for views in resized]
        ids, mask = self.prompts.batch(instructions, words, states)
        flat = [torch.from_numpy(view.copy()).to(device) for views in resized for view in views]
        pixel_values, grid = self.images.patches(flat)
        return {
            "input_ids": ids.to(device),
            "attention_mask": mask.to(device),
            "pixel_values": pixel_values,
            "image_grid_thw": grid,
        }

    @torch.no_grad()
    def normalized_actions(
        self, images: Sequence[Sequence[np.ndarray]], instructions: Sequence[str], states: np.ndarray | None = None
    ) -> Tensor:
        """Regressed actions, not clipped, float32 [B, T, D] on the CPU. Arguments and errors: see `inputs`."""
        return self.model(**self.inputs(images, instructions, states)).mean.cpu()


FRAMEWORKS: Registry[type[Framework]] = Registry("framework_name", "siirl.policies.starvla.frameworks")
