"""The benchmark of policies runs on a machine without Ray, Hydra and simulators, with a tiny config through the same path."""

import json
import os
import subprocess
import sys
from pathlib import Path

WITHOUT = """
import sys
for name in ("ray", "hydra", "omegaconf", "mujoco", "robosuite", "pyarrow", "sklearn", "tensorboard"):
    sys.modules[name] = None
from benchmarks.policy import main
main(sys.argv[1:])
"""


def test_every_part_gives_a_row(tmp_path: Path) -> None:
    arguments = ["--cases", "tiny", "--rounds", "1", "--out", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], check=True, env=dict(os.environ), cwd=Path(__file__).parents[2]
    )
    result = json.loads((tmp_path / "policy.json").read_text())
    assert "ray" not in result["environment"]["versions"]
    rows = result["rows"]
    assert [row["what"] for row in rows] == [
        *("act", "act", "update", "update, checkpointing"),  # OpenVLA-OFT
        "act",  # OpenVLA
        *("act", "update, checkpointing"),  # StarVLA
        "embed",
    ]
    for row in rows:
        assert 0 < row["of_floor"] < 1.5
        assert row["samples_per_s"] > 0
        assert 0 < row["peak_gib"] < 4
        assert row["what"].startswith("update") or row["of_plain"] > 0
