"""The benchmark of world models runs without Ray, Hydra and simulators, and counts the operations that reuse saves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.world_model import CASES, CHUNK, KEPT, STEPS, chunk_flops

WITHOUT = """
import sys
for name in ("ray", "hydra", "omegaconf", "mujoco", "robosuite", "pyarrow", "sklearn", "tensorboard"):
    sys.modules[name] = None
from benchmarks.world_model import main
main(sys.argv[1:])
"""


def test_every_way_gives_a_row(tmp_path: Path) -> None:
    arguments = ["--cases", "tiny", "--rounds", "1", "--out", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], check=True, env=dict(os.environ), cwd=Path(__file__).parents[2]
    )
    rows = json.loads((tmp_path / "world_model.json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["recomputed", "reused", "whole"]
    assert all(row["frames_per_s"] > 0 for row in rows)
    assert all(0 < row["of_floor"] < 1.5 for row in rows[:2])


def test_operations_of_the_published_size() -> None:
    """12 frames per step against 4 once and 8 per step; a frame is 256 tokens of 56 blocks with 12 · 1152² weights."""
    case = CASES["cuda"][0]
    recomputed, reused = chunk_flops(case, reuse=False), chunk_flops(case, reuse=True)
    frames = KEPT + CHUNK
    bound = STEPS * frames / (KEPT + STEPS * CHUNK)
    assert recomputed / reused == pytest.approx(bound, rel=0.01)
    blocks = 2 * 256 * 56 * 12 * 1152**2
    assert STEPS * frames * blocks < recomputed < 1.05 * STEPS * frames * blocks
