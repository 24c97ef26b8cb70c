"""The 2-D variational autoencoder between frames and latents, under the names of diffusers' ``AutoencoderKL``.

Source: Rombach et al., *High-Resolution Image Synthesis with Latent Diffusion Models*, arXiv:2112.10752; published world models
have the weights of SDXL's, arXiv:2307.01952. It is written here, not taken from diffusers, because that package brings pipelines
of a hundred models and pins of its own for what is a stack of convolutions.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6
LOG_VARIANCE = (-30.0, 20.0)
"""Bounds of the posterior's log-variance."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The architecture; defaults are those of SDXL's.

    Attributes:
        block_out_channels: width at each resolution, from the frame's down; each halves the side but the last.
        layers_per_block: residual blocks per resolution of the encoder; the decoder has one more.
        latent_channels: channels C of the latents.
        norm_num_groups: groups of every normalisation; divides every width.
        scaling_factor: latents are multiplied by it, to be of about unit variance.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.13025
    act_fn: str = "silu"
    down_block_types: tuple[str, ...] = ()
    up_block_types: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: dict[str, Any]) -> "AutoencoderConfig":
        """From a ``config.json``, of which keys that change nothing here (tiling, sample size) are not looked at.

        Raises:
            ValueError: layers that this autoencoder does not have, or groups that do not divide a width.
        """
        known: dict[str, Any] = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        made = cls(**known)
        layers = {*made.down_block_types, *made.up_block_types} - {"DownEncoderBlock2D", "UpDecoderBlock2D"}
        options = ("mid_block_add_attention", "use_quant_conv", "use_post_quant_conv")
        if layers or made.act_fn != "silu" or not all(config.get(option, True) for option in options):
            raise ValueError(
                "the autoencoder must be of DownEncoderBlock2D and UpDecoderBlock2D with act_fn silu, and have "
                f"{', '.join(options)}, as the published ones do"
            )
        if uneven := [width for width in made.block_out_channels if width % made.norm_num_groups]:
            raise ValueError(f"norm_num_groups={made.norm_num_groups} does not divide block_out_channels {uneven}")
        return made

    def published(self) -> dict[str, Any]:
        """``config.json``."""
        levels = len(self.block_out_channels)
        types = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
        return asdict(self) | types

    @property
    def downsampling(self) -> int:
        """Pixels per latent along a side."""
        return 2 ** (len(self.block_out_channels) - 1)


class ResnetBlock(nn.Module):
    """Two normalised convolutions beside the identity."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=EPS)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.conv_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, H, W]."""
        inner = self.conv1(functional.silu(self.norm1(x)))
        inner = self.conv2(functional.silu(self.norm2(inner)))
        return inner + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class PixelAttention(nn.Module):
    """Attention of every latent pixel to all, in one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H, W]."""
        pixels = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (layer(pixels).unsqueeze(1) for layer in (self.to_q, self.to_k, self.to_v))
        seen = functional.scaled_dot_product_attention(q, k, v).squeeze(1)
        return x + self.to_out[0](seen).transpose(1, 2).view(x.shape)


class MidBlock(nn.Module):
    """What lies between encoder or decoder and the latents."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([PixelAttention(channels, groups)])
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H, W]."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Downsample(nn.Module):
    """Halves the sides; the padding is on the right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H / 2, W / 2]."""
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, 2 H, 2 W]."""
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, and what leads to the next one."""

    def __init__(self, channels: int, out: int, layers: int, groups: int, down: bool, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels if i == 0 else out, out, groups) for i in range(layers)])
        resampling = [] if last else [Downsample(out) if down else Upsample(out)]
        self.add_module("downsamplers" if down else "upsamplers", nn.ModuleList(resampling))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, H', W']."""
        for stack in self.children():  # the residual blocks, then the resampling
            for layer in stack.children():
                x = layer(x)
        return x


class Encoder(nn.Module):
    """Frames → moments of the latents."""

    def __init__(self, c: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = c.block_out_channels, c.norm_num_groups
        self.conv_in = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], width, c.layers_per_block, groups, True, i == len(widths) - 1)
            for i, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * c.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → [N, 2 C, H', W']."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(functional.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents → frames."""

    def __init__(self, c: AutoencoderConfig) -> None:
        super().__init__()
        widths, groups = c.block_out_channels[::-1], c.norm_num_groups
        self.conv_in = nn.Conv2d(c.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], width, c.layers_per_block + 1, groups, False, i == len(widths) - 1)
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], c.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H', W'] → [N, 3, H, W]."""
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class AutoencoderKL(nn.Module):
    """The autoencoder, with random weights.

    Args:
        config: see `AutoencoderConfig.of`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = c = AutoencoderConfig.of(config)
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quant_conv = nn.Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(c.latent_channels, c.latent_channels, 1)

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [N, 3, H, W] in [−1, 1] → mean and log-variance of their unscaled latents, each [N, C, H', W']."""
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def encode(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Frames [N, 3, H, W] in [−1, 1] → scaled latents [N, C, H', W']: the posterior's mean, or a draw of it with ``noise``,
        which is standard normal [N, C, H', W']."""
        mean, log_variance = self.posterior(pixels)
        latents = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
        return latents * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [N, C, H', W'] → frames [N, 3, H, W], of which what lies outside of [−1, 1] is to be clipped."""
        return self.decoder(self.post_quant_conv(latents / self.config.scaling_factor))
