"""What must be installed, and what is said when it is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill import package
from siirl.envs.maniskill.package import ASSETS, asset_folder, check_installed, check_rendering

CPU = EnvConfig(env_type="maniskill", env_name="PickCube-v1")
GPU = EnvConfig(env_type="maniskill", env_name="PickCube-v1", sim_backend="gpu")
NO_DRIVER = "/nowhere/icd.json"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise package.PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", missing)
    with pytest.raises(ValueError, match=r"needs the package mani_skill; .*pip install 'siirl\[maniskill\]'"):
        check_installed()


def test_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "version", lambda name: "3.1.0")
    with pytest.raises(ValueError, match=r"mani_skill 3\.1\.0 is installed; allowed: 3\.0\.1"):
        check_installed()


def test_no_driver_is_told_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", NO_DRIVER)
    with pytest.raises(ValueError, match=r"cannot draw on this machine.*mesa-vulkan-drivers/bookworm-backports"):
        check_rendering(CPU)


def test_no_gpu_is_told_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", NO_DRIVER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match=r"cannot draw on this machine.*use env\.sim_backend=cpu"):
        check_rendering(GPU)


def test_a_driver_that_crashes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "PROBE", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ValueError, match=r"cannot draw on this machine with Vulkan \(exit code -11\)"):
        check_rendering(CPU)


def test_a_driver_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(package, "PATIENCE", 0.1)
    with pytest.raises(ValueError, match=r"no answer within 0\.1 s.*mesa-vulkan-drivers"):
        check_rendering(CPU)


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", NO_DRIVER)
    done = subprocess.run([sys.executable, "-m", "siirl.envs.maniskill"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(("ManiSkill cannot draw", "env_type=maniskill needs"))


def test_assets_are_looked_for_where_the_key_says_then_where_maniskill_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(ASSETS, raising=False)
    assert asset_folder(CPU) == Path.home() / ".maniskill"
    monkeypatch.setenv(ASSETS, str(tmp_path))
    assert asset_folder(CPU) == tmp_path
    assert asset_folder(EnvConfig(asset_dir="/elsewhere")) == Path("/elsewhere")
