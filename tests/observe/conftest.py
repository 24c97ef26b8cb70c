"""A small made-up run, with everything that a page can show."""

from pathlib import Path

import pytest

from benchmarks.made_up_run import MadeUpRun


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder: 12 steps, films of both outcomes, faults."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    MadeUpRun(folder, steps=12, groups=6, n=4, tested=20, films=2).write()
    return folder


@pytest.fixture(scope="session")
def imagined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one that trains in a world model and validates in LIBERO, four times."""
    folder = tmp_path_factory.mktemp("runs") / "imagined"
    MadeUpRun(folder, steps=16, groups=20, n=4, tested=60, films=2, imagined=True).write()
    return folder
