"""What OpenSora imagines: RLinf's action-conditioned video model, or one that siirl has trained (docs/world_model.md)."""

import torch

from siirl.config.schema import EnvConfig, WorldModelConfig
from siirl.envs.base import ENVS
from siirl.envs.world_model.base import WorldModelEnv
from siirl.envs.world_model.opensora import OpenSoraModel, OpenSoraSettings, check_parts
from siirl.envs.world_model.stdit3 import STDiT3Config
from siirl.envs.world_model.vae import AutoencoderConfig
from siirl.envs.world_model.weights import WorldModelFiles, read_json, read_statistics


@ENVS.register("opensora_wm")
class OpenSoraWorld(WorldModelEnv):
    """See `WorldModelEnv`."""

    @staticmethod
    def load(config: EnvConfig, device: torch.device) -> OpenSoraModel:
        """The model that the config names. Raises ValueError for files that are missing or broken; says which."""
        return OpenSoraModel.load(find_files(config.world_model), settings_of(config), device)

    @staticmethod
    def check_files(config: EnvConfig) -> None:
        """Raises ValueError when a file of the model is missing, or what the small ones say does not go together or with the
        settings; says which. Reads no weights."""
        files = find_files(config.world_model)
        transformer = STDiT3Config.of(read_json(files.config))
        vae = AutoencoderConfig.of(read_json(files.vae / "config.json"))
        check_parts(transformer, vae, read_statistics(files.statistics), settings_of(config))


def settings_of(config: EnvConfig) -> OpenSoraSettings:
    """How the model is used."""
    settings = config.world_model
    return OpenSoraSettings(
        chunk=settings.chunk,
        condition_frames=settings.condition_frame_length,
        image_size=config.image_size,
        num_sampling_steps=settings.num_sampling_steps,
        use_timestep_transform=settings.use_timestep_transform,
        dtype=settings.dtype,
        compile=settings.use_torch_compile,
    )


def find_files(settings: WorldModelConfig) -> WorldModelFiles:
    """The files that the settings name."""
    assert settings.path is not None, "`siirl.client.env_checks` refuses a run without"
    return WorldModelFiles.find(
        settings.path, settings.model_path, settings.vae_path, settings.reward_model_path, settings.stats_path
    )
