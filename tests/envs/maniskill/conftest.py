"""What the ManiSkill tests share; those that draw are skipped, loudly, where that is not possible."""

import pytest

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.maniskill.package import check_installed, check_rendering


@pytest.fixture(scope="session")
def drawing() -> None:
    """ManiSkill is here and can draw."""
    require_drawing()


def require_drawing() -> None:
    """Skip the test where ManiSkill cannot draw."""
    try:
        check_installed()
        check_rendering(EnvConfig(env_type="maniskill"))
    except ValueError as error:
        pytest.skip(f"ManiSkill IS NOT TESTED on this machine: {error}")


def episode(suite: str = "PickCube-v1", trial_id: int = 5, max_steps: int = 50, task_id: int = 0) -> EpisodeSpec:
    """An episode; its ``env_seed`` is without effect."""
    return EpisodeSpec(suite, task_id, trial_id, "", max_steps, group_id=0, index=0, env_seed=7, action_seed=0)
