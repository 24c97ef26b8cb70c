"""The lesson in seeing that PickCube's small policies start from: its scenes are what it says, and it teaches."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siirl.policies.prismatic.vision import VisionBackbone
from siirl.training.scratch import load_vision
from tests.envs.maniskill.conftest import require_drawing

FOLDER = Path(__file__).parents[2] / "examples" / "pickcube"
SIZE = 112


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    require_drawing()
    return runpy.run_path(str(FOLDER / "vision.py"))


def test_things_are_where_the_labels_say(script: dict[str, Any]) -> None:
    """The goal's sphere is green, and the cube red, at most of their pixels: something may stand before them."""
    stage = script["Stage"](7)
    pictures, places, pixels = stage.scenes(30, SIZE)
    stage.close()
    assert pictures.shape == (30, SIZE, SIZE, 3)
    assert (places[:, 0, 2] >= 0.019).all()
    assert ((pixels > 0) & (pixels < SIZE)).mean() > 0.95
    x, y = np.moveaxis(pixels.clip(0, SIZE - 1).astype(int), -1, 0)
    rows = np.arange(30)
    red, green, _ = pictures[rows, y[:, 0], x[:, 0]].T.astype(int)
    assert np.mean(red > 2 * green) > 0.5
    red, green, _ = pictures[rows, y[:, 1], x[:, 1]].T.astype(int)
    assert np.mean(green > 2 * red) > 0.5


def test_lesson_ends_in_a_tower_that_fine_tuning_can_start_from(script: dict[str, Any], tmp_path: Path) -> None:
    architecture, out = FOLDER / "openvla_oft.json", tmp_path / "vision.safetensors"
    files = ["--architecture", str(architecture), "--out", str(out)]
    sizes = ["--scenes", "60", "--steps", "2", "--workers", "1"]
    command = [sys.executable, str(FOLDER / "vision.py"), *files, *sizes]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "step 2" in done.stdout
    tower = VisionBackbone(json.loads(architecture.read_text()))
    load_vision(tower, out)
    assert all(bool(weight.isfinite().all()) for weight in tower.state_dict().values())


def test_patches_and_places_are_learned(script: dict[str, Any]) -> None:
    """A white square on black, anywhere: soon its place is known to a tenth of the picture."""
    torch.manual_seed(0)
    side, patch = 48, 8
    tower = script["new_tower"](
        {
            **json.loads((FOLDER / "openvla_oft.json").read_text()),
            "image_sizes": [side],
            "timm_model_args": [
                {"img_size": side, "patch_size": patch, "embed_dim": 64, "depth": 3, "num_heads": 2, "global_pool": ""}
                | {"class_token": False}
            ],
        }
    )
    corner = torch.randint(0, side - patch, (512, 2))
    pictures = torch.zeros(512, side, side, 3, dtype=torch.uint8)
    for picture, (x, y) in zip(pictures, corner.tolist(), strict=True):
        picture[y : y + patch, x : x + patch] = 255
    centre = corner + patch // 2
    places = torch.nn.functional.pad(centre.float() / side, (0, 1))[:, None].expand(-1, 3, -1)
    patches = (centre[:, 1] // patch * (side // patch) + centre[:, 0] // patch)[:, None].expand(-1, 3)
    questions = script["Questions"](tower, places.mean((0, 1)), torch.tensor([0.25, 0.25, 1.0]))
    script["train"](questions, pictures[:, None], patches, places, 200, 0)
    assert questions.errors(pictures[:25, None], places[:25])[:, :2].max() < 10
    assert (places[:25, 0, :2] - places.mean((0, 1))[:2]).abs().mean() > 0.2, "a guess in the middle is worse"
