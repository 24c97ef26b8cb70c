"""A cache folder of their own for the LIBERO tests, and small, quick rendering."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Textures and generated configs of the package's tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="package")
def config() -> EnvConfig:
    return EnvConfig(image_size=64, antialiasing=False, max_texture_size=64)


def episode(suite: str = "libero_spatial", task_id: int = 0, trial_id: int = 45, max_steps: int = 220) -> EpisodeSpec:
    """An episode whose furniture is seeded with 7."""
    return EpisodeSpec(suite, task_id, trial_id, "", max_steps, group_id=0, index=0, env_seed=7, action_seed=0)
