"""A disk that is full for a while, by a real limit on the size of files: nothing logged in the meantime is lost."""

import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch.multiprocessing as mp

from siirl.observe.backlog import Backlog
from siirl.observe.metrics import MetricsLog
from siirl.observe.trackers.local import TensorBoardTracker
from tests.observe.trackers.test_local import scalars


class Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.name}: {record.getMessage()}")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _log_through_a_full_disk(_: int, folder: Path) -> None:
    warnings = Warnings()
    logging.getLogger("siirl").addHandler(warnings)  # what other libraries have to say is not ours to count
    log, tracker = MetricsLog(folder), TensorBoardTracker(folder / "tensorboard", "run", 0)
    (events,) = (folder / "tensorboard").iterdir()
    for sink, file in ((log, folder / "metrics.jsonl"), (tracker, events)):
        for step in range(6):
            written = file.read_bytes()
            with largest_file(len(written) + 5 if 2 <= step < 5 else 10**9):  # five bytes: room for half a row
                sink.log(step, {"rollout/success_rate": step / 10})
            assert (file.read_bytes() == written) == (2 <= step < 5), "a row, or nothing of it"
        sink.close()
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()] == list(range(6))
    assert scalars(folder / "tensorboard", "rollout/success_rate") == [(i, pytest.approx(i / 10)) for i in range(6)]
    assert [text.partition(" cannot be written")[0] for text in warnings.texts] == [
        f"siirl.observe.backlog: {folder / 'metrics.jsonl'}",
        f"siirl.observe.backlog: TensorBoard's folder {folder / 'tensorboard'}",
    ], warnings.texts


def test_metrics_wait_for_a_full_disk_and_are_written_later(tmp_path: Path) -> None:
    mp.spawn(_log_through_a_full_disk, args=(tmp_path,), nprocs=1)


def test_rows_that_never_fit_are_counted_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def full(rows: object) -> None:
        raise OSError(28, "No space left on device")

    backlog: Backlog[int] = Backlog("the log", full)
    backlog.add(1)
    backlog.add(2)
    backlog.close()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the log cannot be written",
        "2 rows could not be written to the log and are lost",
    ]


def test_other_errors_are_raised() -> None:
    def forbidden(rows: object) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        Backlog("the log", forbidden).add(1)
