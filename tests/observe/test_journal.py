"""The journal: starts, warnings and ends, across runs that are resumed, refused or killed."""

import json
import logging
from pathlib import Path

import pytest

from siirl.observe.journal import JOURNAL, Journal

log = logging.getLogger("siirl.somewhere")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def begin_and_raise(folder: Path, error: BaseException) -> None:
    with Journal() as journal:
        journal.open(folder, [], step=0)
        raise error


def test_it_tells_of_start_warnings_and_end(tmp_path: Path) -> None:
    with Journal() as journal:
        log.warning("%s is broken", "global_step_3")
        journal.open(tmp_path, ["--config-name=quickstart"], step=2)
        log.info("nothing to worry about")
        log.warning("disk almost full")
        log.warning("disk almost full")
    start, before, after, end = lines(tmp_path)
    assert start["kind"] == "start"
    assert (start["command"], start["step"]) == (["--config-name=quickstart"], 2)
    assert start["versions"].keys() >= {"torch", "numpy"}
    assert start["cores"] >= 1
    assert (before["message"], before["source"]) == ("global_step_3 is broken", "siirl.somewhere")
    assert after["message"] == "disk almost full", "once"
    assert (end["kind"], end["how"]) == ("end", "done")


def test_a_resumed_run_goes_on_in_it_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin_and_raise(tmp_path, KeyboardInterrupt())
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"kind": "war')
    with pytest.raises(ArithmeticError):
        begin_and_raise(tmp_path, ArithmeticError("the toy broke"))
    assert [(line["kind"], line.get("how")) for line in lines(tmp_path)] == [
        *(("start", None), ("end", "interrupted")),
        *(("start", None), ("end", "crashed")),
    ]
    assert lines(tmp_path)[-1]["error"] == "ArithmeticError: the toy broke"


def test_a_refused_run_leaves_none(tmp_path: Path) -> None:
    with Journal():
        log.warning("never mind")
    assert list(tmp_path.iterdir()) == []
    assert not any(isinstance(handler, Journal) for handler in logging.getLogger().handlers)
