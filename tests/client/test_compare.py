"""Evaluations side by side: what is compared, and what is not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from siirl.client.compare import main
from siirl.observe.episodes import EpisodeLog, EpisodeRow, compact
from siirl.observe.pairing import pairs_of, read_all
from siirl.observe.results import results, write_results
from siirl.observe.statistics import Pairs, mcnemar, paired_interval
from tests.observe.episodes import summary

SETTINGS = {
    "evaluate.suites": {"libero_spatial": "libero_spatial"},
    "trainer.seed": 0,
    "evaluate.do_sample": False,
    "actor_rollout_ref.embodied.env.max_steps": None,
}


def evaluation(
    folder: Path, successes: dict[int, str], weights: str = "a", complete: bool = True, **row: object
) -> Path:
    """Of tasks whose trials succeeded (1) or not (0)."""
    found = [
        replace(EpisodeRow.of(summary(digit == "1", task_id=task), 0, "eval"), trial_id=trial, env_seed=trial, **row)  # type: ignore[arg-type]
        for task, digits in successes.items()
        for trial, digit in enumerate(digits)
    ]
    log = EpisodeLog(folder)
    for one in found:
        log.add(one)
    log.close()
    compact(folder)
    write_results(folder, {"complete": complete, "weights": weights, "settings": SETTINGS} | results(found))
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return evaluation(tmp_path / "start", {0: "1100110000", 2: "0000000000"})


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return evaluation(tmp_path / "trained", {0: "1111111000", 2: "1111110000"}, weights="b")


def test_pairs_are_counted_trial_by_trial(start: Path, trained: Path) -> None:
    one, other = read_all([start, trained])
    keys = list(one.rows)
    assert pairs_of(one, other, keys[:10]) == Pairs(both=4, first=0, second=3, neither=3)
    assert pairs_of(one, other, keys) == Pairs(4, 0, 9, 7)


def test_the_difference_is_told_per_task_and_in_all(
    start: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(start), str(trained)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A = start, B = trained"
    assert [line.split()[0] for line in lines[1:5]] == ["task", "0", "2", "libero_spatial"]
    low, high = paired_interval(Pairs(4, 0, 9, 7))
    interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
    assert (
        lines[4].split(maxsplit=1)[1].split()
        == f"20.0 65.0 +45.0 {interval} 0 / 9 {mcnemar(Pairs(4, 0, 9, 7)):.4f}".split()
    )
    assert max(map(len, lines)) <= 80
    assert "same weights" not in "".join(lines)


def test_each_of_several_is_compared_with_the_first(
    start: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = Path(shutil.copytree(trained, tmp_path / "again"))
    assert main([str(trained), str(start), str(again)]) == 0
    out = capsys.readouterr().out
    assert ("A = trained, B = start" in out, "A = trained, C = again" in out) == (True, True)
    assert out.count("both are of the same weights") == 1


def test_other_settings_are_told(start: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((trained / "results.json").read_text())
    content["settings"]["evaluate.do_sample"] = True
    write_results(trained, content)
    assert main([str(start), str(trained)]) == 0
    assert "they differ in evaluate.do_sample: false and true" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *folders: Path) -> str:
    assert main([str(folder) for folder in folders]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_what_cannot_be_paired_is_refused_by_name(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = {0: "1100110000", 2: "0000000000"}
    cases = {
        "they ran other suites": evaluation(tmp_path / "suite", digits, suite="libero_object"),
        f"they ran other tasks; {start} lacks 1, e.g. libero_spatial/1": evaluation(
            tmp_path / "task", digits | {1: "0"}
        ),
        "they ran other trials; .* lacks 5, e.g. libero_spatial/2/5": evaluation(tmp_path / "t", digits | {2: "00000"}),
        "they ran other repetitions": evaluation(tmp_path / "repetition", digits, index=1),
    }
    for message, other in cases.items():
        error = refused(capsys, start, other)
        assert f"{start} and {other} cannot be paired: " in error
        for part in message.split(".*"):
            assert part in error


def test_other_seeds_and_rules_are_refused(start: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((trained / "results.json").read_text())
    for key, value in (("trainer.seed", 1), ("actor_rollout_ref.embodied.env.max_steps", 300)):
        write_results(trained, content | {"settings": SETTINGS | {key: value}})
        assert f"{key}={'0' if value == 1 else 'null'} in the first and {value} in the second" in refused(
            capsys, start, trained
        )


def test_other_simulator_seeds_are_refused(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(start, tmp_path / "other"))
    (other / "episodes.parquet").unlink()
    log = EpisodeLog(other)
    for row in read_all([start])[0].rows.values():
        log.add(replace(row, env_seed=row.env_seed + 1))
    log.close()
    assert "their simulators had other seeds" in refused(capsys, start, other)


def test_unfinished_and_other_folders_are_refused(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = evaluation(tmp_path / "unfinished", {0: "1"}, complete=False)
    assert f"{unfinished} is not complete (1 episodes); run its command again" in refused(capsys, start, unfinished)
    assert f"{tmp_path} is no folder of an evaluation" in refused(capsys, tmp_path, start)
