"""Vectors of the published implementations, whose weights are a function of each parameter's name."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from siirl.config.schema import EmbodiedConfig
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.policy import PrismaticPolicy

FOLDER = Path(__file__).parents[1] / "golden"
P = TypeVar("P", bound=PrismaticPolicy)


@dataclass
class Golden:
    """One pair of files, e.g. ``openvla_small.json`` and ``.safetensors``."""

    spec: dict[str, Any]
    vectors: dict[str, Tensor]

    @classmethod
    def read(cls, name: str) -> "Golden":
        """The files called ``name`` in tests/golden."""
        return cls(json.loads((FOLDER / f"{name}.json").read_text()), load_file(FOLDER / f"{name}.safetensors"))

    @property
    def config(self) -> dict[str, Any]:
        """The model's ``config.json``."""
        return self.spec["config"]

    @property
    def cases(self) -> range:
        """Numbers of the cases."""
        return range(sum(name.endswith(".input_ids") for name in self.vectors))

    def __getitem__(self, name: str) -> Tensor:
        return self.vectors[name]

    def policy(self, kind: type[P], num_action_tokens: int) -> P:
        """The policy with the golden weights."""
        with torch.device("meta"):
            model = kind.network(self.config, num_action_tokens)
        model.to_empty(device="cpu")
        model.restore_buffers(torch.device("cpu"))
        fill_by_name(model)
        return kind(
            model, Checkpoint(self.config, self.config["norm_stats"]), EmbodiedConfig(unnorm_key="libero_goal"), "fp32"
        )

    def inputs(self, case: int) -> tuple[Tensor, Tensor]:
        """Prompt [1, L] and normalised pixels [1, 6·views, 224, 224]."""
        ids = self.vectors[f"case{case}.input_ids"]
        generator = torch.Generator().manual_seed(int(self.vectors[f"case{case}.pixel_seed"]))
        torch.randint(3, 31000, ids.shape, generator=generator)  # drawn first where the vectors were made
        return ids, torch.randn(1, 6 * self.spec.get("num_images", 1), 224, 224, generator=generator)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every case in one batch with more padding than it needs: ids [B, L], mask bool [B, L], pixels."""
        prompts, pixels = zip(*(self.inputs(case) for case in self.cases), strict=True)
        longest = max(ids.shape[1] for ids in prompts) + 3
        ids = torch.full((len(prompts), longest), self.config["pad_token_id"])
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, : prompt.shape[1]] = prompt
            mask[row, : prompt.shape[1]] = True
        return ids, mask, torch.cat(pixels)


@torch.no_grad()
def fill_by_name(model: nn.Module) -> None:
    """The golden weights."""
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        r = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1 and name.endswith("weight"):
            r = 1 + 0.05 * r
        elif name.endswith("scale_factor"):
            r = 0.1 + 0.01 * r
        elif parameter.dim() == 1:
            r = 0.02 * r
        elif parameter.dim() == 2:
            r = r * 1.5 / parameter.shape[-1] ** 0.5
        else:
            r = 0.03 * r
        parameter.copy_(r)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
