"""The start policy's calibration error: it shifts what the policy is told about its gripper, and can be taken back."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from siirl.config.folders import shipped_folder
from siirl.policies.prismatic.actions import Bounds

SCRIPT = Path(__file__).parents[2] / "examples" / "start_policy" / "miscalibrate.py"
FILE = "dataset_statistics.json"
SHIPPED = json.loads((shipped_folder("assets") / "start_policy" / FILE).read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text(json.dumps(SHIPPED))
    return tmp_path


def miscalibrate(folder: Path, *offset: float) -> dict[str, list[float]]:
    """Run the script; returns the proprioception statistics that it leaves."""
    runpy.run_path(str(SCRIPT))["main"]([str(folder), *map(str, offset)])
    return json.loads((folder / FILE).read_text())["libero_spatial"]["proprio"]


def test_the_policy_takes_the_gripper_to_be_lower_than_it_is(folder: Path) -> None:
    before = Bounds.from_statistics(SHIPPED["libero_spatial"]["proprio"])
    after = Bounds.from_statistics(miscalibrate(folder, 0.01, 0.0, 0.015))
    state = (before.low + before.high) / 2
    believed = state - np.array([0.01, 0, 0.015, 0, 0, 0, 0, 0])
    assert after.normalise(state) == pytest.approx(before.normalise(believed))
    assert abs(after.normalise(state)[2] - before.normalise(state)[2]) > 0.05


def test_the_opposite_offset_takes_it_back(folder: Path) -> None:
    miscalibrate(folder, 0.02, -0.01, 0.015)
    restored = miscalibrate(folder, -0.02, 0.01, -0.015)
    for name, values in SHIPPED["libero_spatial"]["proprio"].items():
        assert restored[name] == pytest.approx(values), name


def test_nothing_else_changes(folder: Path) -> None:
    miscalibrate(folder, 0.02, -0.01, 0.015)
    changed = json.loads((folder / FILE).read_text())["libero_spatial"]
    assert changed["action"] == SHIPPED["libero_spatial"]["action"]
    assert changed["proprio"]["std"] == SHIPPED["libero_spatial"]["proprio"]["std"]
