"""StarVLA's policies with random weights, from the tiny base models among the golden vectors; other tests import it."""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from siirl.config.schema import ModelConfig
from siirl.policies.starvla import QwenOFT, StarVLA

BASES = Path(__file__).parents[2] / "golden" / "qwenoft_dev_base"
QWEN2_5, QWEN3 = "tiny-Qwen2.5-VL", "tiny-Qwen3-VL"
ACTION_MODEL: dict[str, Any] = {"action_model_type": "MLP", "action_dim": 7, "action_horizon": 8}
DATA: dict[str, Any] = {"data_mix": "libero_all", "obs_image_size": [56, 56]}
STATISTICS: dict[str, Any] = {
    "franka": {
        "action": {
            "min": [-0.9, -0.8, -0.7, -0.1, -0.2, -0.3, 0.0],
            "max": [0.9, 0.85, 0.75, 0.12, 0.22, 0.33, 1.0],
            "q01": [-0.5, -0.4, -0.3, -0.05, -0.1, -0.15, 0.0],
            "q99": [0.5, 0.45, 0.35, 0.06, 0.11, 0.16, 1.0],
            "mask": [True] * 6 + [False],
        }
    }
}
STEPS = "steps_30000_pytorch_model.pt"


def framework(base: str = QWEN2_5, **action: Any) -> dict[str, Any]:
    """The section ``framework`` of a config; ``action`` changes ``action_model``, None removes an entry."""
    merged = {name: value for name, value in {**ACTION_MODEL, **action}.items() if value is not None}
    return {"name": "QwenOFT", "qwenvl": {"base_vlm": str(BASES / base)}, "action_model": merged}


def tiny_oft(base: str = QWEN2_5, seed: int = 0, **action: Any) -> QwenOFT:
    """The framework, always with the same weights for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        oft = QwenOFT.from_config(framework(base, **action), BASES / base, DATA)
        for parameter in oft.model.parameters():
            if parameter.dim() > 1:  # states of random layers of the usual size are too much alike
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return oft


def write_run_folder(oft: QwenOFT, folder: Path, config: dict[str, Any], data: dict[str, Any] | None = None) -> Path:
    """A run folder as StarVLA's training leaves one."""
    (folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(
        {"framework": config, "datasets": {"vla_data": DATA if data is None else data}, "trainer": {"seed": 42}},
        folder / "config.yaml",
    )
    (folder / "dataset_statistics.json").write_text(json.dumps(STATISTICS))
    torch.save(oft.model.state_dict(), folder / "checkpoints" / STEPS)
    return folder


def tiny_starvla_folder(tmp_path: Path, base: str = QWEN2_5, **action: Any) -> Path:
    """A run folder for ``embodied_type=starvla``, un-normalisation key franka, chunks of 8 × 7."""
    return write_run_folder(tiny_oft(base, **action), tmp_path / "tiny-starvla", framework(base, **action))


def load(
    folder: Path, acting_only: bool = False, device: str = "cpu", views: int | None = None, **model: Any
) -> StarVLA:
    """The folder's policy as a run loads it, fp32 unless ``model`` says otherwise."""
    settings = ModelConfig(**{"path": str(folder), "dtype": "fp32", **model})
    return StarVLA.load(settings, StarVLA.describe(str(folder), views), torch.device(device), acting_only)


@torch.no_grad()
def fill_by_name(network: nn.Module) -> None:
    """The golden weights, a function of each parameter's name."""
    for name, parameter in network.named_parameters():
        r = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if parameter.dim() == 1:
            parameter.copy_(1 + 0.05 * r if name.endswith("weight") else 0.02 * r)
        else:
            parameter.copy_(r / parameter.shape[-1] ** 0.5 if parameter.dim() == 2 else 0.05 * r)
