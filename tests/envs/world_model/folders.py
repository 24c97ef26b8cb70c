"""A world model's folder with random weights, in the sizes of the toy simulator or another env, with initial states."""

from pathlib import Path

import numpy as np

import tests.workers.toy as toy
from siirl.config.schema import EnvConfig, WorldModelConfig
from siirl.envs.world_model.initial_states import InitialState, write_initial_states
from siirl.envs.world_model.weights import save_world_model
from tests.envs.world_model.parts import STATISTICS, small_parts

SIZE = 32


def opensora_folder(folder: Path, trials: int = 12) -> Path:
    """It imagines noise, which its classifier takes for success or not."""
    save_world_model(folder, *small_parts(), STATISTICS)
    states = [
        InitialState(np.full((SIZE, SIZE, 3), 30 + 5 * trial, np.uint8), toy.INSTRUCTION, trial, f"trial {trial}")
        for trial in range(trials)
    ]
    write_initial_states(folder / "dataset", states)
    return folder


def opensora_config(folder: Path, num_envs: int = 2, threshold: float = 1.0) -> EnvConfig:
    """An imagined toy; with a ``threshold`` of 1 it never succeeds."""
    settings = WorldModelConfig(
        wm_env_type="toy", path=str(folder), dtype="fp32", num_sampling_steps=2, success_threshold=threshold
    )
    return EnvConfig(env_type="opensora_wm", env_name="toy", num_envs=num_envs, image_size=SIZE, world_model=settings)
