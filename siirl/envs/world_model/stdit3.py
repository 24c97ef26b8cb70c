"""STDiT3: the action-conditioned spatial-temporal diffusion transformer of RLinf's OpenSora world model.

It predicts the velocity of a rectified flow for every frame's latents. Frames whose mask is 0 are conditions: they are modulated
as of timestep 15 whatever the others' timestep is, and since attention along time is causal, those that come first do not depend
on what follows. `STDiT3.encode_condition` therefore computes their keys and values once, and `STDiT3.denoise` takes them up; both
together equal `STDiT3.forward`.

Sources: Zhu et al., *WMPO: World Model-based Policy Optimization*, arXiv:2511.09515; Zheng et al., *Open-Sora*, arXiv:2412.20404;
their published code, which the golden vectors were computed with.
"""

from dataclasses import dataclass, fields
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from siirl.envs.world_model.blocks import (
    ActionEmbedder,
    Block,
    CaptionEmbedder,
    FinalLayer,
    KeysValues,
    PatchEmbed,
    Rotary,
    TimestepEmbedder,
    patch_positions,
)

CONDITION_TIMESTEP = 15
"""The noise level that condition frames are said to have, of 1000."""
VARIANTS = 32
"""Most versions of a block's compiled code: within frames, along time, with a past or without, each for one row or several."""


@dataclass(frozen=True)
class STDiT3Config:
    """The architecture; defaults are those of the published XL/2.

    Attributes:
        hidden_size: width D, a multiple of 4 and of twice ``num_heads``.
        depth: pairs of a spatial and a temporal block.
        in_channels: channels of the latents.
        patch_size: latent frames, rows and columns per token.
        pred_sigma: whether the output has as many channels again, which nothing reads.
        qk_norm: whether queries and keys are normalised.
        caption_channels, model_max_length: sizes of parameters that are never read.
        action_dim: numbers per action.
        pad_action_num: condition frames, to which no action belongs.
        input_sq_size: side of the images of pre-training, pixels, which positions are relative to.
        use_timestep_transform: whether timesteps are shifted for the size of the video, in training and so in sampling, too.
    """

    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    in_channels: int = 4
    patch_size: tuple[int, int, int] = (1, 2, 2)
    pred_sigma: bool = True
    qk_norm: bool = True
    caption_channels: int = 4096
    model_max_length: int = 300
    action_dim: int = 7
    pad_action_num: int = 4
    input_sq_size: int = 512
    use_timestep_transform: bool = True

    @classmethod
    def of(cls, config: dict[str, Any]) -> "STDiT3Config":
        """From a ``config.json``, of which other keys (versions, kernels, training) are not looked at.

        Raises:
            ValueError: sizes that do not go together.
        """
        known = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        made = cls(**known | {"patch_size": tuple(known.get("patch_size", cls.patch_size))})
        if made.hidden_size % (2 * made.num_heads) or made.hidden_size % 4:
            raise ValueError(
                f"hidden_size={made.hidden_size} with num_heads={made.num_heads}: the width must be a multiple of 4 and of twice "
                "the number of heads, because positions rotate pairs of channels"
            )
        return made

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.in_channels * (2 if self.pred_sigma else 1)


@dataclass(frozen=True)
class Modulation:
    """What timesteps and actions do to the frames' hidden states.

    Attributes:
        spatial: for blocks within frames, broadcasts to [B, T, 6, D].
        temporal: for blocks along time, broadcasts to [B, T, 6, D].
        final: for the last layer, [B, D], or [1, D] for all rows alike.
    """

    spatial: Tensor
    temporal: Tensor
    final: Tensor


class STDiT3(nn.Module):
    """The network, with random weights as the published training starts from.

    Args:
        config: see `STDiT3Config.of`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = c = STDiT3Config.of(config)
        dim = c.hidden_size
        self.rope = Rotary(dim // c.num_heads)
        self.x_embedder = PatchEmbed(c.patch_size, c.in_channels, dim)
        self.t_embedder = TimestepEmbedder(dim)
        self.action_embedder = ActionEmbedder(dim, c.action_dim, c.pad_action_num)
        self.fps_embedder = TimestepEmbedder(dim)  # never read
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.y_embedder = CaptionEmbedder(c.caption_channels, dim, c.model_max_length)  # never read

        def blocks(temporal: bool) -> nn.ModuleList:
            return nn.ModuleList(Block(dim, c.num_heads, c.mlp_ratio, c.qk_norm, temporal) for _ in range(c.depth))

        self.spatial_blocks, self.temporal_blocks = blocks(False), blocks(True)
        self.final_layer = FinalLayer(dim, prod(c.patch_size) * c.out_channels)
        self._initialise()

    def forward(
        self, latents: Tensor, timesteps: Tensor, actions: Tensor, x_mask: Tensor, height: Tensor, width: Tensor
    ) -> Tensor:
        """Velocities of all frames.

        Args:
            latents: [B, C, T, H, W]; frames with mask 1 are noisy as their timestep says.
            timesteps: [B], from 1000 (noise) to 0.
            actions: [B, A, action_dim], normalised; the i-th leads to frame ``pad_action_num + i``.
            x_mask: [B, T'] for T' = T / patch_size[0]: 1 for frames to generate, 0 for condition frames.
            height: [B], of the images in pixels; the first counts for all.
            width: likewise.

        Returns:
            float32 [B, out_channels, T, H, W], of which the first ``in_channels`` are the velocity.

        Raises:
            ValueError: there are not as many actions and mask entries as frames.
        """
        x = self._tokens(latents, height, width)
        frames, expected = x.shape[1], self.config.pad_action_num + actions.shape[1]
        if expected != frames or x_mask.shape[1] != frames:
            raise ValueError(
                f"{frames} frames need {frames - self.config.pad_action_num} actions (pad_action_num is "
                f"{self.config.pad_action_num}) and a mask [B, {frames}], not {actions.shape[1]} actions and a mask of "
                f"{tuple(x_mask.shape)}"
            )
        noisy, clean = self._modulation(timesteps, actions), self._condition_modulation()
        generated = x_mask.bool()
        in_space = torch.where(generated[..., None, None], noisy.spatial, clean.spatial)
        in_time = torch.where(generated[..., None, None], noisy.temporal, clean.temporal)
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x, _ = spatial(x, in_space)
            x, _ = temporal(x, in_time, self.rope)
        return self._pixels(self.final_layer(x, noisy.final, clean.final, generated), latents.shape)

    def encode_condition(self, latents: Tensor, height: Tensor, width: Tensor) -> list[KeysValues]:
        """Keys and values of condition frames [B, C, K, H, W] in every temporal block, for `denoise`."""
        x, modulation = self._tokens(latents, height, width), self._condition_modulation()
        past = []
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x, _ = spatial(x, modulation.spatial)
            x, seen = temporal(x, modulation.temporal, self.rope)
            past.append(seen)
        return past

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        actions: Tensor,
        past: list[KeysValues],
        height: Tensor,
        width: Tensor,
    ) -> Tensor:
        """Velocities of the frames [B, C, F, H, W] that follow condition frames; otherwise as `forward`."""
        x = self._tokens(latents, height, width)
        modulation = self._modulation(timesteps, actions, before=past[0][0].shape[-2])
        for spatial, temporal, seen in zip(self.spatial_blocks, self.temporal_blocks, past, strict=True):
            x, _ = spatial(x, modulation.spatial)
            x, _ = temporal(x, modulation.temporal, self.rope, seen)
        return self._pixels(self.final_layer(x, modulation.final), latents.shape)

    def compile_blocks(self) -> None:
        """Compile the blocks in place, so that parameters keep their names; at their first use. Blocks of one kind share their
        code, whose sizes are dynamic: any number of rows may be imagined together. What cannot be compiled is an error."""
        from torch._dynamo import config  # takes seconds, and most runs do without

        config.recompile_limit = max(config.recompile_limit, VARIANTS)
        for block in (*self.spatial_blocks, *self.temporal_blocks):
            block.compile(dynamic=True, fullgraph=True)

    def _tokens(self, latents: Tensor, height: Tensor, width: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, T', S, D], with positions in the image."""
        x = self.x_embedder(latents.to(self._dtype))
        scale = (float(height[0]) * float(width[0])) ** 0.5 / self.config.input_sq_size
        rows, columns = x.shape[3:]
        return x.flatten(3).permute(0, 2, 3, 1) + patch_positions(rows, columns, x.shape[1], scale, x)

    def _modulation(self, timesteps: Tensor, actions: Tensor, before: int = 0) -> Modulation:
        """Of frames to generate, of which the first follows ``before`` others."""
        t = self.t_embedder(timesteps.to(self._dtype))
        led_to = self.action_embedder(actions.to(self._dtype))[:, before:]
        return Modulation(self._six(t[:, None] + led_to), self._six(t[:, None]), t)

    def _condition_modulation(self) -> Modulation:
        """Of condition frames, in all rows alike; no action matters to them."""
        timestep = self.x_embedder.proj.weight.new_full((1,), CONDITION_TIMESTEP)
        t = self.t_embedder(timestep)
        six = self._six(t[:, None])
        return Modulation(six, six, t)

    def _six(self, embedding: Tensor) -> Tensor:
        """[B, T, D] → [B, T, 6, D]."""
        return self.t_block(embedding).unflatten(-1, (6, -1))

    def _pixels(self, patches: Tensor, shape: torch.Size) -> Tensor:
        """[B, T', S, values of a patch] → float32 [B, out_channels, T, H, W] for latents of ``shape``."""
        sizes, patch = shape[2:], self.config.patch_size
        rows, columns = (-(-size // side) for size, side in zip(sizes[1:], patch[1:], strict=True))
        x = patches.unflatten(2, (rows, columns)).unflatten(-1, (*patch, self.config.out_channels))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(2, 3).flatten(3, 4).flatten(4, 5)
        return x[:, :, : sizes[0], : sizes[1], : sizes[2]].float()

    @property
    def _dtype(self) -> torch.dtype:
        return self.x_embedder.proj.weight.dtype

    @torch.no_grad()
    def _initialise(self) -> None:
        """Linear layers start as Xavier's, and temporal blocks as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for name, parameter in self.temporal_blocks.named_parameters():
            if name.endswith((".attn.proj.weight", ".mlp.fc2.weight")):
                nn.init.zeros_(parameter)
