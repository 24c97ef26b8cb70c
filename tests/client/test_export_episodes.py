"""An evaluation's episodes as a LeRobotDataset: made once, gone on with, refused by name."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from siirl.client.export_episodes import main
from siirl.data.lerobot import read
from tests.client.evaluations import evaluate, rows
from tests.workers.runs import ENV

LIBERO = {
    f"{ENV}.env_type": "libero",
    f"{ENV}.env_name": "libero_spatial",
    f"{ENV}.task_ids": "[0]",
    f"{ENV}.num_trials_per_task": 2,
    f"{ENV}.max_steps": 12,
    f"{ENV}.image_size": 64,
    f"{ENV}.num_steps_wait": 0,
}


@pytest.fixture(scope="module")
def evaluation(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short episodes in LIBERO."""
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(folder, policy, LIBERO)
    return folder


def test_every_step_is_there_and_an_interrupted_export_goes_on(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "episodes"
    assert main([str(evaluation), str(out)]) == 0
    assert f"2 episodes in {out}" in capsys.readouterr().out
    data = read(out)
    assert [len(demo.actions) for demo in data.demos] == [12, 12]
    assert {demo.trial for demo in data.demos} == {0, 1}
    assert {demo.success for demo in data.demos} == {None}, "they lack the last frame, which world models learn from"
    for demo, row in zip(data.demos, sorted(rows(evaluation), key=lambda row: row.trial_id), strict=True):
        assert demo.actions.ravel().tolist() == row.actions
    assert data.frames(data.demos[0], range(12)).shape == (12, 64, 64, 3)
    table = pq.read_table(next((out / "data").rglob("*.parquet")))
    assert table["next.done"].to_pylist() == ([False] * 11 + [True]) * 2
    assert {"next.reward", "next.success", "repetition"} < set(table.column_names)
    before = (out / "meta/info.json").read_bytes()
    assert main([str(evaluation), str(out)]) == 0
    assert (out / "meta/info.json").read_bytes() == before


def test_what_cannot_be_exported_is_refused(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, out: Path, *more: str) -> str:
        assert main([str(folder), str(out), *more]) == 2
        return capsys.readouterr().err

    assert "no episode in" in refused(evaluation, tmp_path / "out", "--outcome=success")
    assert "--suite is libero_goal; allowed: libero_spatial" in refused(
        evaluation, tmp_path / "out", "--suite=libero_goal"
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").touch()
    assert "is not empty" in refused(evaluation, other)
    begun = shutil.copytree(evaluation, tmp_path / "begun")
    content = json.loads((begun / "results.json").read_text())
    (begun / "results.json").write_text(json.dumps(content | {"complete": False}))
    assert "is not complete" in refused(begun, tmp_path / "out")
    old = shutil.copytree(evaluation, tmp_path / "old")
    table = pq.read_table(old / "episodes.parquet")
    metadata = pq.read_schema(old / "episodes.parquet").metadata
    pq.write_table(table.drop_columns(["actions"]).replace_schema_metadata(metadata), old / "episodes.parquet")
    assert "kept no actions" in refused(old, tmp_path / "out")
