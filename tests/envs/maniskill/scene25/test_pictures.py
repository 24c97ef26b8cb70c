"""Backgrounds and textures, on small pictures."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from siirl.envs.maniskill.scene25.pictures import SIZE, blend, read_picture, resized, texture_size, with_background
from siirl.envs.maniskill.scene25.variants import Texture

RGB = torch.full((6, 8, 3), 100, dtype=torch.uint8)
BOX = torch.zeros(6, 8, dtype=torch.bool)
BOX[2:4, 3:6] = True


def test_background_only_outside_the_foreground() -> None:
    picture = with_background(RGB[None], BOX[None], torch.zeros(1, 6, 8, 3, dtype=torch.uint8))[0]
    assert (picture[BOX] == 100).all()
    assert (picture[~BOX] == 0).all()


def test_a_texture_over_the_foreground() -> None:
    image = torch.full((20, 20, 3), 200, dtype=torch.uint8)
    picture = blend(RGB, BOX, image, Texture(0.5, whole=False), mix=1.0)
    assert (picture[BOX] == 150).all()
    assert (picture[~BOX] == 100).all()


def test_a_texture_is_stretched_to_the_foreground() -> None:
    image = torch.zeros(2, 2, 3, dtype=torch.uint8)
    image[:, 1] = 200  # right half
    picture = blend(RGB, BOX, image, Texture(1.0, whole=False), mix=1.0)
    assert (picture[2:4, 3] == 0).all()
    assert (picture[2:4, 5] == 200).all()


def test_a_texture_over_everything_is_a_window_from_the_middle_of_the_foreground() -> None:
    image = torch.arange(12 * 16, dtype=torch.uint8).reshape(12, 16, 1).expand(-1, -1, 3)
    picture = blend(RGB, BOX, image, Texture(1.0, whole=True), mix=1.0)
    assert (picture == image[2:8, 4:12]).all()


def test_a_texture_without_weight_or_foreground_changes_nothing() -> None:
    image = torch.full((12, 16, 3), 200, dtype=torch.uint8)
    for whole in (True, False):
        assert (blend(RGB, BOX, image, Texture(0.5, whole), mix=0.0) == RGB).all()
        assert (blend(RGB, torch.zeros_like(BOX), image, Texture(0.5, whole), mix=1.0) == RGB).all()


def test_reading_stretches(tmp_path: Path) -> None:
    Image.new("RGB", (10, 30), (1, 2, 3)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.shape == (*SIZE, 3)
    assert picture[7, 9].tolist() == [1, 2, 3]
    assert texture_size(Texture(0.3, whole=True)) == (960, 1280)
    assert texture_size(Texture(0.3, whole=False)) == SIZE


def test_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.png is not a picture"):
        read_picture(tmp_path / "a.png")


def test_resizing() -> None:
    assert resized(RGB[None], (6, 8)).data_ptr() == RGB.data_ptr()
    small = resized(RGB[None], (3, 3))
    assert small.shape == (1, 3, 3, 3)
    assert (small == 100).all()
