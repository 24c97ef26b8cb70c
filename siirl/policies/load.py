"""A policy from its folder, for use outside of a run."""

from pathlib import Path

import torch

from siirl.config.schema import ActionNoiseConfig, ModelConfig
from siirl.policies.base import POLICIES, Policy, stated_type
from siirl.policies.gaussian import stored_per_dimension
from siirl.policies.prismatic.loading import read_json
from siirl.policies.prismatic.parts import ACTION_HEAD, find_parts

RUN_CONFIG = "config.yaml"  # of StarVLA's run folders alone

DTYPES = ("fp32", "bf16")


def load_policy(
    path: str | Path,
    embodied_type: str | None = None,
    *,
    unnorm_key: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "fp32",
    center_crop: bool = True,
    num_images: int | None = None,
) -> Policy:
    """Load a policy folder; sizes are those that the folder states.

    Args:
        path: folder in Hugging Face layout, or a run folder of StarVLA, see ``docs/policies.md``.
        embodied_type: the policy's class, ``openvla``, ``openvla-oft``, ``openvla-oft-l1`` or ``starvla``. None: what the folder
            says; published ones tell only by an action head or a proprioception projector beside the weights, which are
            otherwise of the same names and shapes.
        unnorm_key: entry of ``dataset_statistics.json``; None where the folder has only one.
        device: where it computes.
        dtype: computation type, ``fp32`` or ``bf16``. With ``bf16`` the weights of linear layers and convolutions, the output
            head's apart, rest in bf16, and act as float32 ones would. `Policy.save` writes them so: all values of a folder
            stored in bf16 come back, those of a float32 one are rounded. To train or to keep bits, load ``fp32``.
        center_crop: see ``actor_rollout_ref.embodied.center_crop``; StarVLA's policies crop nothing.
        num_images: camera views that the policy was trained with, 1 main, 2 main and wrist. None: what the folder says,
            which published ones of OpenVLA-OFT do not.

    Raises:
        ValueError: the folder is incomplete, malformed or of another class; the class or the key is unknown; or the class,
            the key or the views are not given although the folder does not tell.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; allowed: {', '.join(DTYPES)}. Give one of them, or leave it out.")
    if num_images not in (None, 1, 2):
        raise ValueError(f"num_images is {num_images!r}; allowed: 1 (main view), 2 (main and wrist), or leave it out.")
    target = torch.device(device)
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device is {str(device)!r}, but PyTorch sees no GPU here; give device='cpu', or install its CUDA build."
        )
    factory = POLICIES.get(embodied_type or _stated_type(Path(path)))
    embodied = factory.describe(str(path), num_images)
    embodied.unnorm_key, embodied.center_crop = unnorm_key or embodied.unnorm_key, center_crop
    noise = ActionNoiseConfig(per_dimension=stored_per_dimension(Path(path)))
    model = ModelConfig(path=str(path), dtype=dtype, action_noise=noise)
    return factory.load(model, embodied, target, acting_only=True)


def _stated_type(folder: Path) -> str:
    """The ``embodied_type`` of ``config.json``; without it, what only OpenVLA-OFT has (parts, chunks, proprioception) tells."""
    if (folder / RUN_CONFIG).is_file():
        return "starvla"
    config = read_json(folder / "config.json")
    if (stated := stated_type(config, folder / "config.json")) is not None:
        return stated
    if parts := find_parts(folder):
        return "openvla-oft-l1" if ACTION_HEAD in parts else "openvla-oft"
    if config.get("action_chunks_len", 1) != 1 or config.get("use_proprio", False):
        return "openvla-oft"
    raise ValueError(
        f"{str(folder)!r} does not say which policy it holds, since published folders of OpenVLA and OpenVLA-OFT look alike; "
        f"give embodied_type, one of: {', '.join(POLICIES.names())}."
    )
