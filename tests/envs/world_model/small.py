"""A world model small enough for any test: brightness, which actions raise, and noise. Registered as ``small_wm``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import tests.workers.toy as toy
from siirl.config.schema import EnvConfig, WorldModelConfig
from siirl.envs.base import ENVS
from siirl.envs.world_model.base import WorldModelEnv
from siirl.envs.world_model.initial_states import InitialState, write_initial_states
from siirl.envs.world_model.video_model import Imagined

SIZE, PATCH = 32, 8
BRIGHT = 0.6
"""Brightness, of 1, above which the classifier sees success."""
MARK = "small_wm.txt"
"""The file that stands for the weights."""
EXPLODES = 50.0
"""A turn (action number 3) above which the model comes to NaN."""


class SmallModel(nn.Module):
    """Frames are 4×4 patches. Each action adds a tenth of its first number to all of them; a convolution over patches and the
    mean of the remembered frames, and noise, add a little."""

    def __init__(self, image_size: int, settings: WorldModelConfig) -> None:
        super().__init__()
        self.image_size, self.chunk = image_size, settings.chunk
        self.remembered = settings.condition_frame_length
        self.device = torch.device("cpu")
        torch.manual_seed(0)
        self.mix = nn.Conv2d(6, 3, 3, padding=1)

    def begin(self, frames: Tensor) -> Tensor:
        patches = frames.permute(0, 3, 1, 2).float() / 255
        patches = nn.functional.avg_pool2d(patches, self.image_size // PATCH)
        return patches[:, None].expand(-1, self.remembered, -1, -1, -1)

    def imagine(self, memory: Tensor, actions: np.ndarray, seeds: Sequence[int]) -> Imagined:
        noise = torch.stack(
            [torch.randn(self.chunk, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        frames = list(memory.unbind(1))
        for index, action in enumerate(torch.from_numpy(actions).unbind(1)):
            now = frames[-1] + 0.1 * action[:, 0, None, None, None] + 0.01 * noise[:, index]
            mixed = self.mix(torch.cat([now, torch.stack(frames[-self.remembered :]).mean(0)], dim=1))
            exploded = torch.where(action[:, 3] > EXPLODES, torch.nan, 0.0)[:, None, None, None]
            frames.append((now + 0.01 * mixed.tanh() + exploded).clamp(0, 1))
        shown = torch.stack(frames[-self.chunk :], dim=1)
        pictures = (255 * shown.nan_to_num()).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
        size = self.image_size // PATCH
        pictures = pictures.repeat_interleave(size, 2).repeat_interleave(size, 3)
        return Imagined(pictures, shown[:, -self.remembered :], shown.isfinite().flatten(1).all(1))

    def to(self, device: torch.device) -> None:  # type: ignore[override]
        super().to(device)
        self.device = device

    def success(self, frames: Tensor) -> Tensor:
        return torch.sigmoid(40 * (frames.float().mean((2, 3, 4)) / 255 - BRIGHT) + 2.2)


@ENVS.register("small_wm")
class SmallWorld(WorldModelEnv):
    @staticmethod
    def load(config: EnvConfig, device: torch.device) -> SmallModel:
        return SmallModel(config.image_size, config.world_model)

    @staticmethod
    def check_files(config: EnvConfig) -> None:
        assert config.world_model.path is not None
        if not (Path(config.world_model.path) / MARK).is_file():
            raise ValueError(f"{config.world_model.path} lacks {MARK}")


def small_world(folder: Path, num_envs: int = 3, trials: int = 12, size: int = SIZE) -> EnvConfig:
    """A world model of the toy simulator in ``folder``, whose trials start darker or brighter."""
    (folder / MARK).touch()
    states = [
        InitialState(np.full((size, size, 3), 30 + 5 * trial, np.uint8), toy.INSTRUCTION, trial, f"trial {trial}")
        for trial in range(trials)
    ]
    write_initial_states(folder / "dataset", states)
    return EnvConfig(
        env_type="small_wm",
        env_name="toy",
        num_envs=num_envs,
        image_size=size,
        world_model=WorldModelConfig(wm_env_type="toy", path=str(folder)),
    )
