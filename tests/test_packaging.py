"""An installed wheel finds its configs and the start policy, without the checkout beside it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import siirl
from siirl.config.load import load_config
config = load_config("quickstart")
print(siirl.__file__, config.actor_rollout_ref.model.path, sep="\\n")
"""


def test_an_unpacked_wheel_composes_its_configs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("siirl-*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    package, model = done.stdout.splitlines()
    assert Path(package).is_relative_to(site)
    assert Path(model).is_relative_to(site)
    assert (Path(model) / "model.safetensors").is_file()
