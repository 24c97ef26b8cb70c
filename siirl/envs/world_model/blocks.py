"""Layers of the spatial-temporal diffusion transformer, under the parameter names of the published checkpoints.

Sources: Peebles & Xie, *Scalable Diffusion Models with Transformers*, arXiv:2212.09748 (modulation by scale, shift and gate);
Zheng et al., *Open-Sora*, arXiv:2412.20404 (factorised space and time); Su et al., arXiv:2104.09864 (rotary positions).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6
WAVES = 256
"""Sinusoids that a timestep is expanded into."""
LONGEST_WAVE = 10_000

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one attention, [N, heads, L, head], normalised and rotated."""


class RMSNorm(nn.Module):
    """Scales vectors to unit root mean square, computed in float32, and weights their channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


class Rotary(nn.Module):
    """Positions in time as rotations of neighbouring channels. The frequencies lie in checkpoints, but are not trained."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(LONGEST_WAVE ** -(torch.arange(0, dim, 2).float() / dim), requires_grad=False)

    def forward(self, x: Tensor, start: int) -> Tensor:
        """x [..., L, D], whose first row is at position ``start`` → [..., L, D]."""
        positions = torch.arange(start, start + x.shape[-2], device=x.device, dtype=self.freqs.dtype)
        angles = torch.outer(positions, self.freqs).repeat_interleave(2, dim=-1)
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
        return (x * angles.cos() + turned * angles.sin()).to(x.dtype)


class Attention(nn.Module):
    """Self-attention over frames' patches or, if ``causal``, over time, where a frame sees itself and what came before."""

    def __init__(self, dim: int, heads: int, qk_norm: bool, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, rotary: Rotary | None = None, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """x [N, L, D] → [N, L, D], and the keys and values that a later call may be given as its past.

        Args:
            rotary: gives positions; with ``causal`` only.
            past: keys and values of what came before x.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        before = 0 if past is None else past[0].shape[-2]
        if rotary is not None:
            q, k = rotary(q, before), rotary(k, before)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=-2), torch.cat((past[1], v), dim=-2)
        seen = None
        if self.causal:
            seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=x.device).tril(before)
        mixed = attend(q, k, v, seen)
        return self.proj(mixed.transpose(1, 2).flatten(2)), (k, v)


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """Scaled dot products [N, heads, L, head], in float32 on a CPU: the backward pass of PyTorch's kernel takes many times as
    long in bf16 there, and its forward pass no less."""
    if q.device.type != "cpu" or v.dtype != torch.bfloat16:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    with torch.autocast("cpu", enabled=False):
        found = functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=seen)
    return found.to(v.dtype)


class CrossAttention(nn.Module):
    """Attention to a text, which the action-conditioned model never looks at; its checkpoints have the parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q_linear = nn.Linear(dim, dim)
        self.kv_linear = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)


class Mlp(nn.Module):
    """Two linear layers with GELU (tanh approximation) between them."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., out]."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and an MLP, each modulated frame by frame; attends within frames or, if ``temporal``, along time."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, qk_norm: bool, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.attn = Attention(dim, heads, qk_norm, causal=temporal)
        self.cross_attn = CrossAttention(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dim)

    def forward(
        self, x: Tensor, modulation: Tensor, rotary: Rotary | None = None, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """x [B, T, S, D] and its modulation, which broadcasts to [B, T, 6, D] → [B, T, S, D], and what `Attention` returns."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (
            (self.scale_shift_table + modulation).unsqueeze(3).unbind(2)
        )
        inner = modulated(x, shift, scale)
        if self.temporal:
            inner = inner.transpose(1, 2)
        mixed, seen = self.attn(inner.flatten(0, 1), rotary, past)
        mixed = mixed.view(inner.shape)
        x = x + gate * (mixed.transpose(1, 2) if self.temporal else mixed)
        return x + gate_mlp * self.mlp(modulated(x, shift_mlp, scale_mlp)), seen


class FinalLayer(nn.Module):
    """Hidden states → pixels of the latent patches."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.linear = nn.Linear(dim, out)

    def forward(self, x: Tensor, noisy: Tensor, clean: Tensor | None = None, generated: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, S, D] → [B, T, S, out].

        Args:
            noisy: embedding of the timesteps [B, D].
            clean: that of condition frames [1, D]; needed with ``generated``.
            generated: bool [B, T]; frames where it is False are condition frames, and are modulated twice, as published.
                Nothing reads what comes of them.
        """
        found = self._modulated(x, noisy)
        if clean is not None and generated is not None:
            found = torch.where(generated[..., None, None], found, self._modulated(found, clean))
        return self.linear(found)

    def _modulated(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + embedding[:, None])[:, :, None, None].unbind(1)
        return modulated(x, shift, scale)


class TimestepEmbedder(nn.Module):
    """Scalars → vectors, through sinusoids."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WAVES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, timesteps: Tensor) -> Tensor:
        """[B] → [B, D], in the parameters' dtype."""
        half = WAVES // 2
        steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angles = timesteps.float()[:, None] * torch.exp(-math.log(LONGEST_WAVE) * steps / half)
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1).to(next(self.parameters()).dtype))


class ActionEmbedder(nn.Module):
    """Normalised actions → vectors; the first ``padding`` frames, which no action led to, have one of their own."""

    def __init__(self, dim: int, action_dim: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.fc = nn.Sequential(nn.Linear(action_dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, dim))
        self.none_action = nn.Embedding(1, dim)

    def forward(self, actions: Tensor) -> Tensor:
        """[B, A, action_dim] → [B, padding + A, D]."""
        none = self.none_action.weight.expand(len(actions), self.padding, -1)
        return torch.cat((none, self.fc(actions)), dim=1)


class CaptionEmbedder(nn.Module):
    """A text's embedding, which the action-conditioned model never looks at; its checkpoints have the parameters."""

    def __init__(self, channels: int, dim: int, tokens: int) -> None:
        super().__init__()
        self.y_embedding: Tensor
        self.register_buffer("y_embedding", torch.randn(tokens, channels) / channels**0.5)
        self.y_proj = Mlp(channels, dim, dim)


class PatchEmbed(nn.Module):
    """Latents → one vector per patch; sizes that the patch does not divide are filled with zeros at the end."""

    def __init__(self, patch: tuple[int, int, int], channels: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, D, T', H', W'], with as many patches as cover the latents."""
        missing = [-size % patch for size, patch in zip(latents.shape[2:], self.patch, strict=True)]
        return self.proj(functional.pad(latents, [side for width in reversed(missing) for side in (0, width)]))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then channel-wise ``· (1 + scale) + shift``."""
    return functional.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift


def patch_positions(rows: int, columns: int, dim: int, scale: float, like: Tensor) -> Tensor:
    """Sinusoids of where a patch lies in the image, [rows · columns, dim]: half of the channels tell its column, half its row.

    Args:
        scale: divides positions, so that images of another size than that of pre-training span the same range; along a side
            they are stretched as if the image were square.
        like: has the dtype in which angles are computed, and the device.
    """
    square = round((rows * columns) ** 0.5)
    frequencies = (1 / LONGEST_WAVE ** (torch.arange(0, dim // 2, 2, device=like.device).float() / (dim // 2))).to(
        like.dtype
    )

    def waves(count: int) -> Tensor:
        places = torch.arange(count, device=like.device) / scale * (square / count)
        angles = torch.outer(places.to(like.dtype), frequencies)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)

    across, down = waves(columns).expand(rows, -1, -1), waves(rows)[:, None].expand(-1, columns, -1)
    return torch.cat((across, down), dim=-1).flatten(0, 1)
