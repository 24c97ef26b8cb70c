"""What a world model takes of memory: its weights, of its files or as published, and what an imagined chunk keeps.

Roughly: the largest terms alone, from the shapes of the parameters.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from siirl.config.activations import BF16, FP32
from siirl.config.schema import EnvConfig, WorldModelConfig
from siirl.config.shapes import Shapes, folder_shapes

WORLD_MODELS = ("opensora_wm",)
"""Environments whose memory is estimated here."""
INITIAL_STATES = "initial_states.safetensors"
CLASSIFIER = "resnet_rm.pth"
CLASSIFIER_BYTES = 4 * 11_187_858
"""Of the published classifier, which is in float32 whatever the others are in."""
HIDDEN_UNITS = 11
"""Of each token and unit of width, what lives at the peak of a block: the residual, its norm, the MLP before and after its
activation, and the result."""
DECODED = {"cpu": 4, "gpu": 64}
"""Frames that the autoencoder takes at a time (`siirl.envs.world_model.opensora`)."""
FULL_SIZE_COPIES = 3
"""Of the autoencoder's widest layer at the frames' full size, what lives at once: its input, its norm and its activation."""


@dataclass(frozen=True)
class Sizes:
    """What the estimate needs to know of a model.

    Attributes:
        parameters: of transformer and autoencoder.
        width: D of the transformer.
        depth: its pairs of blocks.
        patches: of a frame.
        channels: of the autoencoder's widest layer at the frames' full size.
        classifier: bytes of the classifier.
    """

    parameters: int
    width: int
    depth: int
    patches: int
    channels: int
    classifier: int


PUBLISHED = Sizes(1_214_220_356 + 83_653_863, 1152, 28, 256, 256, CLASSIFIER_BYTES)
"""XL/2 and the autoencoder of Stable Diffusion, at 256 pixels."""


def world_model_bytes(env: EnvConfig, slots: int) -> dict[str, int]:
    """Bytes by what holds them, of one model that imagines for ``slots`` slots.

    Raises:
        ValueError: a file of weights is damaged.
    """
    settings = env.world_model
    sizes = read_sizes(settings, env.image_size) or PUBLISHED
    each = BF16 if settings.dtype == "bf16" else FP32
    together = min(slots, settings.batch_size or slots)
    past = 2 * settings.condition_frame_length * sizes.depth * sizes.patches * sizes.width * each
    hidden = HIDDEN_UNITS * settings.chunk * sizes.patches * sizes.width * each
    frames = min(DECODED[env.sim_backend], together * settings.chunk)
    decoded = FULL_SIZE_COPIES * frames * env.image_size**2 * sizes.channels * each
    return {
        f"world model, {settings.dtype}": sizes.parameters * each + sizes.classifier,
        f"{together} chunks imagined together": together * past + max(together * hidden, decoded),
    }


def read_sizes(settings: WorldModelConfig, image_size: int) -> Sizes | None:
    """Of the files that the settings name; None where no folder is named, or it holds no transformer.

    Raises:
        ValueError: a file of weights is damaged.
    """
    if settings.path is None:
        return None
    root = Path(settings.path)
    shapes = _shapes([Path(given) if given else root for given in (settings.model_path, settings.vae_path)])
    embedder = shapes.get("x_embedder.proj.weight")
    levels = [n for n in shapes if n.startswith("decoder.up_blocks.") and n.endswith("resnets.0.conv1.weight")]
    if embedder is None or not levels:
        return None
    classifier = Path(settings.reward_model_path or root / CLASSIFIER)
    side = image_size // 2 ** (len(levels) - 1)
    return Sizes(
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        width=embedder[0],
        depth=sum(name.startswith("temporal_blocks.") and name.endswith("attn.qkv.weight") for name in shapes),
        patches=(side // embedder[-1]) ** 2,
        channels=shapes[max(levels)][1],
        classifier=classifier.stat().st_size if classifier.is_file() else CLASSIFIER_BYTES,
    )


def _shapes(places: list[Path]) -> Shapes:
    """Of every safetensors file in some folders, and below them, that holds no initial states."""
    folders = {
        file.parent
        for place in places
        for file in (place.parent if place.is_file() else place).rglob("*.safetensors")
        if file.name != INITIAL_STATES
    }
    return {name: shape for folder in sorted(folders) for name, shape in folder_shapes(folder).items()}
