"""Rows of episodes across flushes, crashes, resumes, compaction and full disks."""

import resource
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch.multiprocessing as mp

from siirl.observe.episodes import SCHEMA, EpisodeLog, EpisodeRow, compact, read_episodes
from tests.killed import killed_at
from tests.observe.episodes import summary

ROW = EpisodeRow.of(summary(True, video="videos/a.mp4"), 0, "train", reward=0.6, kept=True)


def row(step: int, index: int = 0) -> EpisodeRow:
    return replace(ROW, step=step, index=index)


def rows(folder: Path) -> list[EpisodeRow]:
    return [EpisodeRow(**values) for values in read_episodes(folder).to_pylist()]


def write(folder: Path, *added: EpisodeRow, resume_step: int | None = None, flush_every: int = 2) -> None:
    log = EpisodeLog(folder, resume_step, flush_every=flush_every)
    for one in added:
        log.add(one)
    log.close()


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "episodes").glob("*"))


def test_a_row_says_everything_of_its_episode() -> None:
    episode = summary(False, task_id=3, steps=220, drop_reason="nan_action", retries=2, seconds=1.5, reward_sum=0.25)
    found = EpisodeRow.of(episode, 7, "val")
    assert asdict(found).keys() == set(SCHEMA.names)
    assert (found.step, found.split, found.suite, found.task_id, found.index) == (7, "val", "libero_spatial", 3, 0)
    assert (found.success, found.truncated, found.drop_reason, found.retries) == (False, True, "nan_action", 2)
    assert (found.seconds, found.reward_sum, found.reward, found.kept, found.video) == (1.5, 0.25, None, None, None)


def test_rows_come_back_as_they_were_added(tmp_path: Path) -> None:
    big = replace(ROW, action_seed=2**63 - 1, env_seed=2**32 - 1, reward=None, kept=None, video=None, drop_reason="x")
    write(tmp_path, ROW, big, row(1), flush_every=2)
    assert parts(tmp_path) == ["part-000000.parquet", "part-000001.parquet"]
    assert rows(tmp_path) == [ROW, big, row(1)]


def test_a_folder_without_episodes_has_no_rows(tmp_path: Path) -> None:
    assert read_episodes(tmp_path).schema == SCHEMA
    assert rows(tmp_path) == []
    write(tmp_path)
    assert not list(tmp_path.iterdir())
    assert read_episodes(compact(tmp_path).parent).num_rows == 0


def test_rows_are_written_after_a_while_even_if_few(tmp_path: Path) -> None:
    now = [0.0]
    log = EpisodeLog(tmp_path, flush_every=100, flush_seconds=30, clock=lambda: now[0])
    for time in (5.0, 34.9, 35.0, 36.0):
        now[0] = time
        log.add(ROW)
    assert len(rows(tmp_path)) == 3
    log.flush()
    assert len(rows(tmp_path)) == 4


def test_a_log_opened_again_goes_on(tmp_path: Path) -> None:
    write(tmp_path, row(1), row(2))
    write(tmp_path, row(3))
    assert [found.step for found in rows(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(("resume_step", "left"), [(2, [0, 1, 2]), (0, []), (None, [0, 1, 2, 3, 4])])
def test_resuming_drops_later_steps(tmp_path: Path, compacted: bool, resume_step: int | None, left: list[int]) -> None:
    write(tmp_path, *(row(step) for step in range(5)))
    if compacted:
        compact(tmp_path)
    write(tmp_path, row(9), resume_step=resume_step)
    assert [found.step for found in rows(tmp_path)] == [*left, 9]


def test_compaction_leaves_one_file_and_can_be_repeated(tmp_path: Path) -> None:
    for step in range(3):
        write(tmp_path, row(step), row(step, 1), row(step, 2))
        before = rows(tmp_path)
        assert compact(tmp_path) == tmp_path / "episodes.parquet"
        assert rows(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["episodes.parquet"]
    assert len(before) == 9


WORKS = {
    "write": (lambda folder: write(folder, row(6), row(7), flush_every=1), 6),
    "resume": (lambda folder: EpisodeLog(folder, resume_step=2), 7),
    "compact": (compact, 7),
}
"""What is killed, and how often it changes the disk at least."""


@pytest.mark.parametrize("name", WORKS)
def test_a_crash_anywhere_neither_loses_nor_repeats_what_was_written(tmp_path: Path, name: str) -> None:
    """Afterwards each row is there once, and the log works on."""
    folder, work = tmp_path / "run", WORKS[name][0]
    before = [row(1), row(5), row(2, 1), row(5, 1), row(2, 2), row(5, 2)]
    for call in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, *before[:2])
        compact(folder)
        write(folder, *before[2:4])
        write(folder, *before[4:], flush_every=1)
        killed = killed_at(call, lambda: work(folder))
        found = rows(folder)
        sure = [one for one in before if one.step <= 2 or name != "resume"]
        new = [row(6), row(7)]
        assert [one for one in found if one in sure] == sure
        assert found[: len(before)] == before or name == "resume"
        assert len(set(found)) == len(found)
        assert set(found) <= {*before, *new}
        write(folder, row(8), resume_step=2)
        assert rows(folder) == [*(one for one in before if one.step <= 2), row(8)]
        assert not list(folder.rglob(".*")), "no leftovers"
        if not killed:
            break
    assert call >= WORKS[name][1]


def _write_through_a_full_disk(_: int, folder: Path) -> None:
    log = EpisodeLog(folder, flush_every=1)
    for step in range(5):
        limit = 200 if 1 <= step < 4 else resource.RLIM_INFINITY  # room for a piece of a part
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        log.add(row(step))
        assert len(rows(folder)) == (1 if step < 4 else 5)
        assert not list((folder / "episodes").glob(".*"))
    log.close()
    assert [found.step for found in rows(folder)] == list(range(5))


def test_rows_wait_for_a_full_disk(tmp_path: Path) -> None:
    mp.spawn(_write_through_a_full_disk, args=(tmp_path,), nprocs=1)
