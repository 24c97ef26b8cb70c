"""One or two timm vision transformers whose patch features are joined (Prismatic VLMs, Karamcheti et al. 2024)."""

from typing import Any

import timm
import torch
from timm.layers import LayerScale as TimmLayerScale
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

Normalisation = list[tuple[list[float], list[float]]]
"""Per backbone: mean and standard deviation of the three colour channels, for pixels in [0, 1]."""


class LayerScale(nn.Module):
    """timm's layer scale under its published name: Hugging Face renames every parameter that is called ``gamma``."""

    def __init__(self, gamma: Tensor) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(gamma.detach())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_factor


def build_featurizer(config: dict[str, Any], index: int) -> VisionTransformer:
    """The ``index``-th backbone: timm's `VisionTransformer` with its ``timm_model_args``, or else a timm id."""
    if "timm_model_args" in config:
        featurizer: nn.Module = VisionTransformer(num_classes=0, **config["timm_model_args"][index])
    else:
        featurizer = timm.create_model(
            config["timm_model_ids"][index],
            pretrained=False,
            num_classes=0,
            img_size=config["image_sizes"][index],
            act_layer=config["timm_override_act_layers"][index],
        )
    assert isinstance(featurizer, VisionTransformer)
    for block in featurizer.blocks:
        for name in ("ls1", "ls2"):
            if isinstance(scale := getattr(block, name), TimmLayerScale):
                setattr(block, name, LayerScale(scale.gamma))
    return featurizer


class VisionBackbone(nn.Module):
    """Features of every patch of every view; the backbones see the same pixels, each normalised in its own way."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.featurizer = build_featurizer(config, 0)
        self.fused_featurizer = build_featurizer(config, 1) if config["use_fused_vision_backbone"] else None
        self.image_size: int = config["image_sizes"][0]
        self.embed_dim = sum(f.embed_dim for f in self.featurizers)
        self.normalisation: Normalisation = [_default_normalisation(f) for f in self.featurizers]

    @property
    def featurizers(self) -> list[VisionTransformer]:
        """The backbones, in the order of their channels."""
        return [f for f in (self.featurizer, self.fused_featurizer) if f is not None]

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [B, V, S, S, 3] → float32 [B, V·C, S, S], C = 3 channels for each backbone."""
        batch, _, height, width, _ = images.shape
        pixels = images.permute(0, 1, 4, 2, 3).float() / 255
        stats = torch.tensor(self.normalisation, device=images.device)[..., None, None]
        channels = [(pixels - mean) / std for mean, std in stats]
        return torch.cat(channels, dim=2).view(batch, -1, height, width)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Normalised pixels [B, V·C, S, S] → features [B, V·P, E]; E joins the backbones' widths."""
        featurizers = self.featurizers
        batch, _, height, width = pixel_values.shape
        views = pixel_values.view(-1, 3 * len(featurizers), height, width).split(3, dim=1)
        features = [last_but_one(f, pixels) for f, pixels in zip(featurizers, views, strict=True)]
        joined = torch.cat(features, dim=2) if len(features) > 1 else features[0]
        return joined.reshape(batch, -1, self.embed_dim)


def last_but_one(featurizer: VisionTransformer, pixels: Tensor) -> Tensor:
    """Patch features after the last block but one, without the final norm; the last block is never computed."""
    features = featurizer.forward_intermediates(
        pixels, [len(featurizer.blocks) - 2], stop_early=True, output_fmt="NLC", intermediates_only=True
    )
    assert isinstance(features, list)
    return features[0]


def _default_normalisation(featurizer: VisionTransformer) -> tuple[list[float], list[float]]:
    """timm's own statistics for a named backbone; mean and deviation 0.5 for one given by its arguments."""
    published = getattr(featurizer, "pretrained_cfg", None)
    if not published:
        return [0.5] * 3, [0.5] * 3
    return list(published["mean"]), list(published["std"])
