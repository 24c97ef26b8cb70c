"""Trackers that speak to a server: a stand-in for a library tells what arrives, and fails as servers do."""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from siirl.config.load import config_to_dict
from siirl.config.schema import Config
from siirl.observe.trackers import remote
from siirl.observe.trackers.make import make_trackers, missing_packages, run_id
from siirl.observe.trackers.remote import RemoteTracker
from siirl.observe.trackers.service import Start

STUB = Path(__file__).parent / "stub"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """The file of what the stand-in was asked."""
    monkeypatch.setenv("PYTHONPATH", f"{STUB}:{ROOT}")
    monkeypatch.setenv("STUB_FILE", str(tmp_path / "told"))
    caplog.set_level(logging.INFO)
    return tmp_path / "told"


def rows(told: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.read_text().splitlines()]


def start(folder: Path, **changes: Any) -> Start:
    begin = Start(
        "project", "name", "id7", False, str(folder / "run"), {"seed": 1}, start_seconds=20, finish_seconds=20
    )
    return replace(begin, **changes)


def test_what_is_logged_arrives_and_what_the_library_prints_goes_to_a_file(
    told: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    tracker = RemoteTracker("wandb", start(tmp_path))
    tracker.log(1, {"time/step": 2.5, "broken": float("nan")})
    tracker.log(2, {"val/success_rate": 0.5})
    tracker.close()
    assert rows(told) == [
        {"id": "id7", "name": "name", "project": "project", "mode": None, "config": {"seed": 1}},
        {"row": {"step": 1, "time/step": 2.5}},
        {"row": {"step": 2, "val/success_rate": 0.5}},
        {"finished": True},
    ]
    assert "wandb: https://there/run" in caplog.text
    assert "chatter" not in capfd.readouterr().out
    assert "chatter" in (tmp_path / "run" / "trackers" / "wandb.log").read_text()


@pytest.mark.parametrize(("fault", "why"), [("init refuses", "connection refused"), ("init hangs", "no answer within")])
def test_a_server_that_is_away_at_the_start_leaves_the_run_recorded_offline(
    fault: str, why: str, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STUB_FAULT", fault)
    began = time.monotonic()
    tracker = RemoteTracker("wandb", start(tmp_path, start_seconds=2 if "hangs" in fault else 20))
    tracker.log(1, {"a": 1.0})
    assert time.monotonic() - began < 1, "nobody waits for the server"
    tracker.close()
    assert next(row.get("mode") for row in rows(told)) == "offline"
    assert {"row": {"step": 1, "a": 1.0}} in rows(told)
    assert why in caplog.text


def test_a_server_that_hangs_at_the_end_is_not_waited_for_long(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STUB_FAULT", "finish hangs")
    tracker = RemoteTracker("wandb", start(tmp_path, finish_seconds=1))
    tracker.log(1, {"a": 1.0})
    tracker.close()
    assert "not everything could be sent" in caplog.text
    assert rows(told)[-1] == {"row": {"step": 1, "a": 1.0}}


def test_a_library_that_hangs_costs_rows_and_no_time_and_its_process_is_ended(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STUB_FAULT", "log hangs")
    monkeypatch.setattr(remote, "MOST_WAITING", 5)
    tracker = RemoteTracker("wandb", start(tmp_path, start_seconds=5, finish_seconds=1))
    tracker._patience = 6
    began = time.monotonic()
    for step in range(100):
        tracker.log(step, {f"metric {i}": 1.0 for i in range(500)})
    assert time.monotonic() - began < 2
    assert "rows were left out" in caplog.text
    tracker.close()
    assert "is ended" in caplog.text
    assert tracker._process.wait(5) != 0


def test_a_process_that_ends_is_told_once_and_the_run_goes_on(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STUB_FAULT", "log dies")
    tracker = RemoteTracker("wandb", start(tmp_path))
    for step in range(2000):
        tracker.log(step, {"a": 1.0})
        time.sleep(0.01)
        if "has ended" in caplog.text:
            break
    for step in range(10):
        tracker.log(step, {"a": 1.0})
    tracker.close()
    assert caplog.text.count("has ended (exit code 7") == 1


def test_a_run_that_is_killed_leaves_no_process(told: Path, tmp_path: Path) -> None:
    """The pipe's end is what the process sees of that."""
    tracker = RemoteTracker("wandb", start(tmp_path))
    tracker.log(1, {"a": 1.0})
    process = psutil.Process(tracker._process.pid)
    tracker._lines.put(None)  # the sender closes the pipe, as the operating system does
    tracker._process.wait(30)
    assert not process.is_running()
    assert rows(told)[-1] == {"finished": True}


def test_a_resumed_run_has_the_id_that_it_began_with(tmp_path: Path) -> None:
    first = run_id("wandb", tmp_path, resumed=False)
    assert run_id("wandb", tmp_path, resumed=True) == first
    other = run_id("swanlab", tmp_path, resumed=True)
    assert other != first
    assert run_id("swanlab", tmp_path, resumed=True) == other
    assert run_id("wandb", tmp_path, resumed=False) not in (first, other)


def test_a_service_is_sent_the_config(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STUB))
    config = Config()
    config.trainer.logger = ["wandb"]
    for first_step in (0, 3):
        (tracker,) = make_trackers(config, tmp_path, first_step)
        tracker.close()
    began, resumed = (row for row in rows(told) if "id" in row)
    assert began["config"] == config_to_dict(config)
    assert (began["project"], began["name"]) == ("siirl_embodied", "openvla_oft_srpo")
    assert resumed["id"] == began["id"]


def test_a_package_that_is_missing_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = Config()
    config.trainer.logger = ["console", "swanlab"]
    assert len(list(missing_packages(config))) == 1
    with pytest.raises(ValueError, match=r'pip install "siirl\[swanlab\]", or leave swanlab out'):
        make_trackers(config, tmp_path)


def test_a_folder_named_like_a_package_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    config = Config()
    config.trainer.logger = ["trackio"]
    assert len(list(missing_packages(config))) == 1
