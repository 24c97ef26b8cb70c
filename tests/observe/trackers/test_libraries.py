"""The services' own libraries, where they are installed, without a network."""

import importlib
import json
import logging
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from siirl.observe.trackers.remote import RemoteTracker
from siirl.observe.trackers.service import SERVICES, Start

ROOT = Path(__file__).parents[3]
LEFT = {"wandb": "run/wandb/*/*.wandb", "swanlab": "run/swanlog/*/*.swanlab", "trackio": "trackio/*.db"}
"""What each leaves on the disk."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's is read or written."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("SWANLAB_API_KEY", "a" * 40)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, home: None) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(params=["refuses", "hangs"])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All services are at a server that refuses connections, or takes them and never answers."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    if request.param == "hangs":
        server.listen(50)
        taken: list[socket.socket] = []
        threading.Thread(target=_take, args=(server, taken), daemon=True).start()
    for name in ("WANDB_BASE_URL", "SWANLAB_API_HOST", "SWANLAB_WEB_HOST", "TRACKIO_SERVER_URL"):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("TRACKIO_WRITE_TOKEN", "none")
    yield
    server.close()


def _take(server: socket.socket, taken: list[socket.socket]) -> None:
    try:
        while True:
            taken.append(server.accept()[0])
    except OSError:
        return


def start(folder: Path, resumed: bool = False, start_seconds: float = 60) -> Start:
    config = {"trainer": {"seed": 1, "logger": ["console"], "path": None}}
    return Start("project", "name", "abcdefghijklmnopqrstu", resumed, str(folder / "run"), config, start_seconds, 60)


def test_a_run_is_recorded_offline_and_resumed(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    for resumed in (False, True):
        tracker = RemoteTracker(service, start(tmp_path, resumed))
        for step in (1, 2):
            tracker.log(step, {"val/success_rate": step / 4})
        tracker.close()
        printed = (tmp_path / "run" / "trackers" / f"{service}.log").read_text()
        assert tracker._process.wait() == 0, printed
    assert list(tmp_path.glob(LEFT[service]))


@pytest.mark.usefixtures("home")
def test_trackio_which_knows_runs_by_their_names_keeps_two_of_one_name_apart(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    for run_id, resumed in (("1stabcdefg", False), ("2ndabcdefg", False), ("1stabcdefg", True)):
        tracker = RemoteTracker("trackio", replace(start(tmp_path, resumed), run_id=run_id))
        tracker.log(1, {"val/success_rate": 0.5})
        tracker.close()
    (file,) = (tmp_path / "trackio").glob("project*.db")
    with closing(sqlite3.connect(file)) as database:
        names = database.execute("SELECT run_name FROM metrics").fetchall()
    assert sorted(names) == [("name-1stabc",), ("name-1stabc",), ("name-2ndabc",)]


@pytest.mark.usefixtures("address")
def test_without_a_server_the_run_goes_on_and_is_recorded(
    service: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tracker = RemoteTracker(service, start(tmp_path, start_seconds=5))
    tracker.log(1, {"val/success_rate": 0.5})
    tracker.close()
    files = list(tmp_path.glob(LEFT[service]))
    assert files, caplog.text
    assert (
        json.loads((tmp_path / "run" / "trackers" / f"{service}.json").read_text())["run_id"] == "abcdefghijklmnopqrstu"
    )
    assert importlib.import_module("siirl.observe.trackers.service").SERVICES.keys() == LEFT.keys()
