"""OpenSora as a video model: what a robot's actions would show, imagined from the last frames.

Source: the published environment of RLinf, whose order of operations is kept: latents of imagined frames condition the next chunk
as they are, and decoded frames are rounded down to whole levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siirl.envs.world_model.reward_model import RewardModel
from siirl.envs.world_model.sampler import sample, schedule
from siirl.envs.world_model.stdit3 import STDiT3, STDiT3Config
from siirl.envs.world_model.vae import AutoencoderConfig, AutoencoderKL
from siirl.envs.world_model.video_model import Imagined
from siirl.envs.world_model.weights import (
    ActionStatistics,
    WorldModelFiles,
    read_reward_model,
    read_statistics,
    read_transformer,
    read_vae,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FRAMES_AT_ONCE = {"cpu": 4}
"""Frames that the autoencoder and the classifier take at a time: as many as a CPU's caches like; elsewhere `MOST_FRAMES`."""
MOST_FRAMES = 64


@dataclass(frozen=True)
class OpenSoraSettings:
    """How the model is used; all but speed and precision must be as in its training.

    Attributes:
        chunk: actions per call, and frames imagined.
        condition_frames: frames before them that it looks at.
        image_size: side of the frames, pixels.
        num_sampling_steps: denoising steps.
        use_timestep_transform: whether they are shifted for the size of the video; None: as the transformer's config says.
        dtype: of transformer and autoencoder: fp32 or bf16; the classifier computes in float32.
        compile: whether the transformer's blocks are compiled, at the first call.
    """

    chunk: int = 8
    condition_frames: int = 4
    image_size: int = 256
    num_sampling_steps: int = 10
    use_timestep_transform: bool | None = None
    dtype: str = "bf16"
    compile: bool = False


class OpenSoraModel:
    """A transformer, an autoencoder and a classifier. A row depends on its own memory, actions and seed alone.

    Attributes:
        chunk, condition_frames, image_size: see `OpenSoraSettings`.
        device: where it computes.

    Raises:
        ValueError: the parts or the settings do not go together.
    """

    def __init__(
        self,
        transformer: STDiT3,
        vae: AutoencoderKL,
        reward_model: RewardModel,
        statistics: ActionStatistics,
        settings: OpenSoraSettings,
    ) -> None:
        check_parts(transformer.config, vae.config, statistics, settings)
        self.chunk, self.condition_frames, self.image_size = (
            settings.chunk,
            settings.condition_frames,
            settings.image_size,
        )
        self._transformer, self._vae, self._reward_model = transformer.eval(), vae.eval(), reward_model.float().eval()
        # Half the time of decoding on a CPU; PyTorch's stubs lack this form.
        self._vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = next(transformer.parameters()).device
        self._statistics = statistics
        shifted = settings.use_timestep_transform
        shifted = transformer.config.use_timestep_transform if shifted is None else shifted
        self._timesteps = schedule(settings.num_sampling_steps, self.image_size, shifted)
        if settings.compile:
            transformer.compile_blocks()

    @classmethod
    def load(cls, files: WorldModelFiles, settings: OpenSoraSettings, device: torch.device | str) -> "OpenSoraModel":
        """From files in the published formats, see `siirl.envs.world_model.weights`.

        Raises:
            ValueError: a file is damaged, or the parts or the settings do not go together.
        """
        target, dtype = torch.device(device), DTYPES[settings.dtype]
        return cls(
            read_transformer(files.config, files.transformer, dtype, target),
            read_vae(files.vae, dtype, target),
            read_reward_model(files.reward_model, target),
            read_statistics(files.statistics),
            settings,
        )

    def to(self, device: torch.device | str) -> None:
        """Move all parameters; what is not in use may wait in the host's memory."""
        for part in (self._transformer, self._vae, self._reward_model):
            part.to(device)
        self.device = torch.device(device)

    @torch.inference_mode()
    def begin(self, frames: Tensor) -> Tensor:
        """The memory [S, C, condition_frames, H', W'] of episodes that start with ``frames`` uint8 [S, H, W, 3]: the first frame
        counts as all condition frames. Its latents are the posterior's mean, where the published environment draws from it.

        Raises:
            ValueError: frames of another size.
        """
        side = self.image_size
        if frames.shape[1:] != (side, side, 3) or frames.dtype != torch.uint8:
            raise ValueError(
                f"the world model's frames are uint8 [S, {side}, {side}, 3], not {frames.dtype} {list(frames.shape)}; set its "
                "image_size to the size that it was trained on, and give initial frames of that size"
            )
        pixels = normalised(frames.to(self.device)).to(self._vae.quant_conv.weight.dtype).split(self._at_once)
        latents = torch.cat([self._vae.encode(some) for some in pixels])
        return latents.unsqueeze(2).repeat(1, 1, self.condition_frames, 1, 1)

    @torch.inference_mode()
    def imagine(self, memory: Tensor, actions: np.ndarray, seeds: Sequence[int]) -> Imagined:
        """The frames that follow ``memory`` when these actions are executed.

        Args:
            memory: [S, …], of `begin` or of the call before.
            actions: float32 [S, chunk, action_dim], as the simulator takes them.
            seeds: of the noise, one per row.
        """
        assert actions.shape[:2] == (len(memory), self.chunk), f"actions {actions.shape} for {len(memory)} rows"
        wanted = torch.from_numpy(self._statistics.normalise(actions)).to(self.device)
        memory = memory.to(self.device)
        noise = self._noise(seeds, self.chunk).to(memory.dtype)
        latents = sample(self._transformer, memory, noise, wanted, self._timesteps, self.image_size)
        latents = latents.to(memory.dtype)
        pixels = self._decode(latents)
        finite = pixels.flatten(1).isfinite().all(1) & latents.flatten(1).isfinite().all(1)
        levels = ((pixels + 1) / 2 * 255).clamp(0, 255).masked_fill(~finite[:, None, None, None, None], 0)
        return Imagined(
            levels.to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous(),
            torch.cat((memory, latents), dim=2)[:, :, -self.condition_frames :].contiguous(),
            finite,
        )

    @torch.inference_mode()
    def success(self, frames: Tensor) -> Tensor:
        """The classifier's probability that the goal is reached, of frames uint8 [S, F, H, W, 3]: float32 [S, F]."""
        pixels = normalised(frames.flatten(0, 1).to(self.device)).split(self._at_once)
        return torch.cat([self._reward_model(some) for some in pixels]).unflatten(0, frames.shape[:2])

    @property
    def _at_once(self) -> int:
        return FRAMES_AT_ONCE.get(self.device.type, MOST_FRAMES)

    def _decode(self, latents: Tensor) -> Tensor:
        """[S, C, F, H', W'] → float32 [S, F, 3, H, W]."""
        frames = latents.transpose(1, 2).flatten(0, 1).split(self._at_once)
        return torch.cat([self._vae.decode(some) for some in frames]).float().unflatten(0, (len(latents), -1))

    def _noise(self, seeds: Sequence[int], frames: int) -> Tensor:
        """Standard normal [S, C, frames, H', W'], drawn on the host, so that a seed means the same everywhere."""
        side = self.image_size // self._vae.config.downsampling
        shape = (self._vae.config.latent_channels, frames, side, side)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(rows).to(self.device)


def normalised(frames: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] → float32 [N, 3, H, W] in [−1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def check_parts(
    transformer: STDiT3Config, vae: AutoencoderConfig, statistics: ActionStatistics, settings: OpenSoraSettings
) -> None:
    """Raises ValueError for parts or settings that do not go together."""
    if transformer.pad_action_num != settings.condition_frames:
        raise ValueError(
            f"the world model was trained with {transformer.pad_action_num} condition frames (pad_action_num of its "
            f"config.json), but condition_frame_length is {settings.condition_frames}; set it to "
            f"{transformer.pad_action_num}"
        )
    if transformer.in_channels != vae.latent_channels:
        raise ValueError(
            f"the transformer takes latents of {transformer.in_channels} channels, but the autoencoder's have "
            f"{vae.latent_channels}; use the vae/ that the transformer was trained with"
        )
    if len(statistics.q01) != transformer.action_dim:
        raise ValueError(
            f"the statistics are of actions of {len(statistics.q01)} numbers, but the world model takes "
            f"{transformer.action_dim}; use the dataset_statistics.json that it was trained with"
        )
    if settings.image_size % vae.downsampling:
        raise ValueError(
            f"image_size={settings.image_size} must be a multiple of {vae.downsampling}, the pixels per latent of vae/"
        )
