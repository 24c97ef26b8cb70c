"""The small StarVLA's calibration error: it shifts what the arm does, and can be taken back."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from siirl.policies.starvla.platform import ActionScale

SCRIPT = Path(__file__).parents[2] / "examples" / "start_policy" / "miscalibrate.py"
FILE = "dataset_statistics.json"
LIMITS = [0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 1.0]
ACTION = {
    "mean": [0.0] * 7,
    "std": [0.3] * 7,
    "min": [-x for x in LIMITS],
    "max": LIMITS,
    "q01": [-x / 2 for x in LIMITS],
    "q99": [x / 2 for x in LIMITS],
    "mask": [True] * 6 + [False],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text(json.dumps({"libero_spatial": {"action": ACTION, "proprio": {"min": [0.0]}}}))
    return tmp_path


def miscalibrate(folder: Path, *offset: float) -> dict[str, list[float]]:
    runpy.run_path(str(SCRIPT))["main"]([str(folder), *map(str, offset), "--of=action"])
    return json.loads((folder / FILE).read_text())["libero_spatial"]["action"]


@pytest.mark.parametrize("source", ["minmax", "q01q99"])
def test_the_arm_goes_higher_than_commanded(folder: Path, source: str) -> None:
    before = ActionScale.from_statistics(ACTION, source, 7)
    after = ActionScale.from_statistics(miscalibrate(folder, 0.0, 0.0, 0.3), source, 7)
    commanded = np.linspace(-0.9, 0.9, 7)[None]
    moved = after.unnormalise(commanded) - before.unnormalise(commanded)
    np.testing.assert_allclose(moved, [[0, 0, 0.3, 0, 0, 0, 0]], atol=1e-6)


def test_the_opposite_offset_takes_it_back(folder: Path) -> None:
    miscalibrate(folder, 0.1, -0.2, 0.3)
    restored = miscalibrate(folder, -0.1, 0.2, -0.3)
    for name, values in ACTION.items():
        assert restored[name] == pytest.approx(values), name
