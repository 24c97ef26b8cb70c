"""The scene's pictures, rendered: what shows the table's photograph, and what a texture changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from siirl.envs.maniskill.scene25 import CONTROL_MODE
from siirl.envs.maniskill.scene25.scene import Scene25Env
from tests.envs.maniskill.scene25.synthetic import picture_colour, texture_colour

pytestmark = pytest.mark.usefixtures("drawing")


@contextmanager
def made(name: str, folder: Path, size: tuple[int, int] = (640, 480)) -> Iterator[Scene25Env]:
    env = gymnasium.make(
        name,
        num_envs=1,
        obs_mode="none",
        control_mode=CONTROL_MODE,
        sim_backend="physx_cpu",
        render_backend="cpu",
        sensor_configs={"width": size[0], "height": size[1]},
        asset_dir=str(folder),
    ).unwrapped
    env.obs_mode_struct.visual.rgb = env.obs_mode_struct.visual.segmentation = True
    yield env
    env.close()


def picture(env: Scene25Env, episode_id: int) -> np.ndarray:
    """uint8 [H, W, 3] of an episode's start."""
    env.reset(seed=0, options={"episode_id": episode_id})
    return env._get_obs_sensor_data()["3rd_view_camera"]["rgb"][0].numpy()


@pytest.fixture(scope="module")
def main(folder: Path, drawing: None) -> Iterator[Scene25Env]:
    with made("PutOnPlateInScene25Main-v3", folder) as env:
        yield env


def test_the_background_is_the_photograph(main: Scene25Env) -> None:
    for episode_id in (0, 784 * 4 * 5):
        seen = picture(main, episode_id)
        assert seen.shape == (480, 640, 3)
        background = (seen == picture_colour(main.scenarios[0].table)).all(-1)
        assert 0.6 < background.mean() < 0.98
        assert background[-1].all(), "the table's edge is photograph, not the rendered table"
    assert main.scenarios[0].table == 5


def test_the_object_shows_where_it_lies(main: Scene25Env) -> None:
    centres = []
    for place in (0, 783):  # from one corner of the square to the other
        seen = picture(main, 4 * place)
        segmentation = main._get_obs_sensor_data()["3rd_view_camera"]["segmentation"][0, ..., 0].numpy()
        mine = segmentation == int(main.actors["object", 0].per_scene_id[0])
        assert 100 < mine.sum() < 5000
        red, _, blue = seen[mine].mean(0)
        assert red > blue + 50, "it is orange"
        centres.append(np.argwhere(mine).mean(0))
    assert np.linalg.norm(centres[0] - centres[1]) > 50


def test_equal_episodes_look_equal(main: Scene25Env) -> None:
    first = picture(main, 4242)
    picture(main, 99)
    np.testing.assert_array_equal(picture(main, 4242), first)


def test_held_out_tables(folder: Path) -> None:
    with made("PutOnPlateInScene25VisionImage-v1", folder) as env:
        seen = picture(env, 0)
        assert env.scenarios[0].table == 16
        assert (seen[-1] == picture_colour(16)).all()


@pytest.mark.parametrize(
    ("kind", "opacity"), [("Texture03", 0.3), ("Texture05", 0.5), ("Whole03", 0.3), ("Whole05", 0.5)]
)
def test_textures(folder: Path, main: Scene25Env, kind: str, opacity: float) -> None:
    """The same episode with and without its texture, whose number is the training environment's plus the texture's part."""
    plain = picture(main, 40).astype(float)
    with made(f"PutOnPlateInScene25Vision{kind}-v1", folder) as env:
        seen = picture(env, 40 + 7 * 16 * 784 * 4).astype(float)
        scenario = env.scenarios[0]
    assert (scenario.texture, scenario.object, scenario.table) == (8, 0, 0)
    background = (plain == picture_colour(0)).all(-1)
    blended = plain * (1 - opacity) + np.array(texture_colour(8)) * opacity
    np.testing.assert_allclose(seen[~background], blended[~background], atol=1.01)
    np.testing.assert_allclose(seen[background], (blended if "Whole" in kind else plain)[background], atol=1.01)


def test_pictures_of_the_size_that_was_asked_for(folder: Path, main: Scene25Env) -> None:
    large = picture(main, 8)
    with made("PutOnPlateInScene25Main-v3", folder, (64, 64)) as env:
        small = picture(env, 8)
    assert small.shape == (64, 64, 3)
    assert np.abs(small.mean((0, 1)) - large.mean((0, 1))).max() < 1, "the whole view, made smaller"
