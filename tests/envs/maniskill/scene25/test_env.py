"""The suite through siirl's environment: slots, chunks, states, pictures."""

from pathlib import Path

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill import ManiSkillEnv
from tests.envs.maniskill.conftest import episode

NAME = "PutOnPlateInScene25Instruct-v1"


@pytest.mark.usefixtures("drawing")
def test_an_episode(folder: Path) -> None:
    config = EnvConfig(env_type="maniskill", env_name=NAME, asset_dir=str(folder), image_size=64)
    assert [t.instruction for t in ManiSkillEnv.tasks(config)][1] == "set carrot on plate"
    assert ManiSkillEnv.default_max_steps(config) == 80
    ManiSkillEnv.check_machine(config)
    env = ManiSkillEnv(config)
    obs = env.reset([0], [episode(NAME, trial_id=5, max_steps=3, task_id=1)])
    assert obs.main_images.shape == (1, 64, 64, 3)
    assert obs.task_descriptions == ["set carrot on plate"]
    np.testing.assert_allclose(obs.states[0, :3], (-0.14, 0.03, 1.0), atol=0.05)
    np.testing.assert_allclose(obs.states[0, 6:], 0.037, atol=1e-5)
    result = env.step([0], np.zeros((1, 5, 7), dtype=np.float32))
    assert result.executed.tolist() == [3]
    assert result.truncated.tolist() == [True]
    assert (result.rewards == 0).all()
    env.close()


def test_missing_assets_are_found_before_the_start(tmp_path: Path) -> None:
    config = EnvConfig(env_type="maniskill", env_name=NAME, asset_dir=str(tmp_path))
    with pytest.raises(ValueError, match=f"{NAME} needs .* files that are not in the asset folder {tmp_path}"):
        ManiSkillEnv.check_machine(config)
