"""Folders laid out like StarVLA's published checkpoints, with a small random network, to try a walk-through without 15 GB.

``python examples/starvla/synthetic.py FOLDER`` writes ``FOLDER/Qwen2.5-VL-tiny``, a base model's folder without weights, and
``FOLDER/QwenOFT-tiny``, a run folder as StarVLA writes it: ``config.yaml`` that names the base model's folder,
``checkpoints/steps_0_pytorch_model.pt`` and ``dataset_statistics.json`` with the key ``franka``. Its actions are noise.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from siirl.training.scratch_starvla import new_starvla

HERE = Path(__file__).parent
DIMENSIONS = 7
ACTION: dict[str, Any] = {
    "min": [-0.94, -0.94, -0.94, -0.26, -0.37, -0.37, 0.0],
    "max": [0.94, 0.94, 0.94, 0.36, 0.37, 0.37, 1.0],
    "q01": [-0.75, -0.65, -0.94, -0.11, -0.2, -0.18, 0.0],
    "q99": [0.94, 0.83, 0.94, 0.14, 0.18, 0.18, 1.0],
    "mask": [True] * (DIMENSIONS - 1) + [False],
}
BASE, RUN = "Qwen2.5-VL-tiny", "QwenOFT-tiny"


def main() -> None:
    """Write the folders that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if folder.exists():
        parser.error(f"{folder} is there already; remove it or name another folder")
    write(folder)


def write(folder: Path) -> None:
    """Write everything into ``folder``, which may not exist yet."""
    architecture = json.loads((HERE / "architecture.json").read_text())
    words = (HERE.parent / "start_policy" / "vocabulary.txt").read_text().split()
    torch.manual_seed(0)
    policy = new_starvla(architecture, words, "franka", {"action": ACTION}, dtype="fp32")
    base, run = folder / BASE, folder / RUN
    base.mkdir(parents=True)
    policy.framework.vlm.config.save_pretrained(str(base))
    policy.framework.vlm.processor.save_pretrained(str(base))
    (run / "checkpoints").mkdir(parents=True)
    section = architecture["starvla"]
    framework = {**section["framework"], "qwenvl": {"base_vlm": str(base.absolute())}}
    config = {"framework": framework, "datasets": {"vla_data": section["vla_data"]}}
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run / "dataset_statistics.json").write_text(json.dumps({"franka": {"action": ACTION}}, indent=2))
    torch.save(policy.model.state_dict(), run / "checkpoints" / "steps_0_pytorch_model.pt")


if __name__ == "__main__":
    main()
