import multiprocessing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from siirl.envs.libero.assets import shrink_texture, use_small_textures


def texture(folder: Path, width: int, height: int, name: str = "wood.png") -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    return folder / name


def test_shrinks_once_and_keeps_the_proportions(tmp_path: Path) -> None:
    original = texture(tmp_path, 300, 100)
    small = shrink_texture(original, 64)
    with Image.open(small) as image:
        assert image.size == (64, 21)
    made = small.stat().st_mtime_ns
    assert shrink_texture(original, 64) == small
    assert small.stat().st_mtime_ns == made, "taken from the cache"
    assert shrink_texture(original, 32) != small


def test_other_content_under_the_same_name_is_another_texture(tmp_path: Path) -> None:
    before = shrink_texture(texture(tmp_path, 100, 100), 64)
    assert shrink_texture(texture(tmp_path, 100, 101), 64) != before


def test_small_textures_and_other_elements_stay(tmp_path: Path) -> None:
    small, large = texture(tmp_path, 64, 64, "small.png"), texture(tmp_path, 65, 64, "large.PNG")
    model = ElementTree.fromstring(
        f'<mujoco><asset><texture file="{small}"/><texture file="{large}"/><texture builtin="flat"/>'
        '<mesh file="arm.stl"/></asset></mujoco>'
    )
    use_small_textures(model, 64)
    files = [element.get("file") for element in model.iter() if element.tag in ("texture", "mesh")]
    assert files == [str(small), str(shrink_texture(large, 64)), None, "arm.stl"]
    assert files[1] != str(large)


def test_two_processes_at_once(tmp_path: Path, cache: Path) -> None:
    original = texture(tmp_path, 700, 700)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.starmap(shrink_texture, [(original, 200)] * 2)
    assert first == second
    with Image.open(first) as image:
        image.load()
        assert image.size == (200, 200)
    assert not list(cache.rglob("*.partial"))
