"""A synthetic asset folder for the tests of the scene."""

from pathlib import Path

import pytest

from tests.envs.maniskill.scene25 import synthetic


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Complete, and small; do not change it."""
    home = tmp_path_factory.mktemp("asset folder")
    synthetic.build(home)
    return home
