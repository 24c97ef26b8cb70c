"""What OpenSora imagines: RLinf's action-conditioned video model, or one that siirl has trained (docs/world_model.md)."""

import torch

from siirl.config.schema import EnvConfig, WorldModelConfig
from siirl.envs.base import ENVS
from siirl.envs.world_model.base import WorldModelEnv
from siirl.envs.world_model.opensora import OpenSoraModel, OpenSoraSettings
from siirl.envs.world_model.weights import WorldModelFiles


@ENVS.register("opensora_wm")
class OpenSoraWorld(WorldModelEnv):
    """See `WorldModelEnv`."""

    @staticmethod
    def load(config: EnvConfig, device: torch.device) -> OpenSoraModel:
        """The model that the config names. Raises ValueError for files that are missing or broken; says which."""
        settings = config.world_model
        how = OpenSoraSettings(
            chunk=settings.chunk,
            condition_frames=settings.condition_frame_length,
            image_size=config.image_size,
            num_sampling_steps=settings.num_sampling_steps,
            use_timestep_transform=settings.use_timestep_transform,
            dtype=settings.dtype,
            compile=settings.use_torch_compile,
        )
        return OpenSoraModel.load(find_files(settings), how, device)

    @staticmethod
    def check_files(config: EnvConfig) -> None:
        """Raises ValueError when a file of the model is missing; says which, and where it is expected. Reads no weights."""
        find_files(config.world_model)


def find_files(settings: WorldModelConfig) -> WorldModelFiles:
    """The files that the settings name."""
    assert settings.path is not None, "`siirl.client.env_checks` refuses a run without"
    return WorldModelFiles.find(
        settings.path, settings.model_path, settings.vae_path, settings.reward_model_path, settings.stats_path
    )
