"""What the tests of this folder begin with."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_fault_is_left(toy: Path) -> None:
    """Faults that were planned and did not happen would happen in the next test."""
    for fault in toy.iterdir():
        fault.unlink()
