"""Memory and disk beside what the config needs of them."""

import os
from pathlib import Path

import pytest

from siirl.client.doctor import resources
from siirl.client.doctor.lines import Question
from siirl.client.doctor.resources import check_disk, check_memory, disk_line, existing, memory_limit, memory_line
from siirl.config.demand import demand
from siirl.config.schema import Config


def test_memory_that_is_not_there_fails_and_memory_that_is_used_warns() -> None:
    assert memory_line("memory", 30, 20, 24, "fewer").level == "fail"
    assert memory_line("memory", 22, 20, 24, "fewer").level == "warn"
    assert memory_line("memory", 10, 20, 24, "fewer") == resources.Line(
        "pass", "memory", "about 10.0 GiB needed, 20.0 of 24.0 free"
    )


def test_the_7b_on_this_machines_cpu_needs_more_than_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    monkeypatch.setattr(resources, "memory_limit", lambda total: 2**34)
    (line,) = check_memory(Question(config))
    assert line.level == "fail"
    assert f"about {demand(config).host:.1f} GiB needed" in line.text
    assert next(check_memory(Question(config, named=False))).level == "pass"


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    files = (str(limit), str(tmp_path / "absent"))
    assert memory_limit(100, files) == 100
    limit.write_text("60\n")
    assert memory_limit(100, files) == 60
    limit.write_text("max\n")
    assert memory_limit(100, files) == 100


@pytest.mark.parametrize(
    ("free", "size", "level", "fix"),
    [
        (100.0, 2.0, "pass", ""),
        (5.0, 2.0, "warn", "trainer.max_actor_ckpt_to_keep=1"),
        (3.0, 2.0, "warn", "free some"),
        (1.0, 2.0, "fail", "free some"),
        (1.0, 0.0, "pass", ""),
    ],
)
def test_disk_for_the_checkpoints(free: float, size: float, level: str, fix: str) -> None:
    line = disk_line(Config(), Path("/runs"), free, size)
    assert line.level == level
    assert fix in line.fix


def test_a_run_that_never_saves_needs_no_disk() -> None:
    config = Config()
    config.trainer.save_freq = -1
    assert disk_line(config, Path("/runs"), 0.1, 2.0).level == "pass"


def test_the_run_folder_need_not_be_there_but_must_be_writable(tmp_path: Path) -> None:
    assert existing(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "file").write_text("")
    assert existing(tmp_path / "file" / "b") == tmp_path
    config = Config()
    config.trainer.default_local_dir = "/proc/none"
    (line,) = check_disk(Question(config))
    assert (line.level, line.fix) == ("fail", "another trainer.default_local_dir")
    config.trainer.default_local_dir, config.trainer.save_freq = str(tmp_path / "run"), -1
    (line,) = check_disk(Question(config))
    assert line.level == "pass"
    assert os.listdir(tmp_path) == ["file"]
