"""A run of two steps with its start policy: what the tests of the export share."""

import shutil
from pathlib import Path

import pytest

from siirl.client import main_dag
from tests.policies.tiny import tiny_policy_folder
from tests.workers.runs import BY_SEED, EXACT, INLINE, TOY, command_line

BESIDE = {
    "tokenizer_config.json": '{"padding_side": "right"}',
    "modeling_prismatic.py": "raise SystemExit('never run')",
    "README.md": "card of the start policy",
    "optimizer.pt": "weights of the start policy",
    "pytorch_model.bin.index.json": "{}",
}


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start policy with more files than siirl reads."""
    folder = tiny_policy_folder(tmp_path_factory.mktemp("start"), seed=5)
    for name, text in BESIDE.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="session")
def run(toy: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("run")
    assert main_dag.main(command_line(folder, start, TOY, EXACT, INLINE, BY_SEED)) == 0
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be spoilt."""
    return Path(shutil.copytree(run, tmp_path / "copy"))
