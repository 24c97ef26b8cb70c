"""The display on a terminal and the plain lines elsewhere."""

import io
import logging
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from siirl.observe.progress import Progress
from tests.observe.episodes import summary


class Clock:
    """Time that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(clock: Clock, enabled: bool = True) -> tuple[Progress, io.StringIO]:
    file = io.StringIO()
    return Progress(4, enabled, Console(file=file, force_terminal=False), clock), file


def test_without_a_terminal_lines_are_plain_and_rare() -> None:
    clock = Clock()
    progress, file = plain(clock)
    with progress:
        progress.stage("rollout")
        progress.episodes(25)
        for i in range(25):
            clock.now += 1
            progress.episode_done(summary(i % 2 == 0))
        for name in ("reward", "advantage", "update", "weight_sync", "mine", "checkpoint"):
            progress.stage(name)
        clock.now += 5
        progress.step_done(1, {"rollout/success_rate": 0.5})
        progress.stage("rollout")
    assert file.getvalue().splitlines() == [
        "step 1/4  rolling out",
        "step 1/4  rolling out: 10/25 episodes, success 50%",
        "step 1/4  rolling out: 20/25 episodes, success 50%",
        "step 1/4  updating",
        "step 1/4  mine",
        "step 1/4  saving",
        "step 2/4 (1:30 left)  rolling out",
    ]


def test_where_nothing_is_trained_no_step_is_shown() -> None:
    clock, file, screen = Clock(), io.StringIO(), io.StringIO()
    drawn = Console(file=screen, force_terminal=True, width=80)
    for console in (Console(file=file, force_terminal=False), drawn):
        with Progress(0, True, console, clock) as progress:
            progress.stage("validation")
            progress.episodes(20)
            clock.now += 12
            progress.episode_done(summary(True))
            drawn.print(progress._render())
    assert file.getvalue().splitlines() == ["validating", "validating: 1/20 episodes, success 100%, 3:48 left"]
    assert "3:48 left" in screen.getvalue()
    assert "validating" in screen.getvalue()
    assert "training" not in screen.getvalue()


def test_an_evaluation_that_goes_on_counts_what_is_there_but_not_for_its_pace() -> None:
    clock, file = Clock(), io.StringIO()
    with Progress(0, True, Console(file=file, force_terminal=False), clock) as progress:
        progress.stage("evaluation")
        progress.episodes(500, done=400, successes=100)
        clock.now += 30
        progress.episode_done(summary(True))
    assert file.getvalue().splitlines() == ["evaluating", "evaluating: 401/500 episodes, success 25%, 49:30 left"]


def test_disabled_prints_nothing() -> None:
    clock = Clock()
    progress, file = plain(clock, enabled=False)
    with progress:
        progress.stage("rollout")
        progress.episodes(2)
        clock.now += 60
        progress.episode_done(summary(True))
    assert file.getvalue() == ""


DROPPED_THREE = {
    "rollout/success_rate": 0.41,
    "val/success_rate": 0.5,
    "filter/acceptance_rate": 4 / 7,
    "filter/dropped_accuracy": 2.0,
    "filter/dropped_truncated": 1.0,
}


def test_groups_that_the_last_step_dropped_are_told() -> None:
    clock, screen = Clock(), io.StringIO()
    drawn = Console(file=screen, force_terminal=True, width=80)
    with Progress(4, True, drawn, clock) as progress:
        progress.step_done(1, DROPPED_THREE)
        assert progress._latest().plain == "  latest       success 41.0%  ·  validation 50.0%  ·  4 of 7 groups kept"
        progress.step_done(2, {"filter/acceptance_rate": 1.0})
        assert progress._latest().plain == "  latest       success 41.0%  ·  validation 50.0%"
        progress.step_done(3, {"filter/acceptance_rate": 0.0, "filter/dropped_accuracy": 4.0})
        assert progress._latest().plain.endswith("  ·  0 of 4 groups kept")
    assert "0 of 4 groups kept" in Text.from_ansi(screen.getvalue()).plain


def test_groups_that_a_step_dropped_have_a_plain_line() -> None:
    progress, file = plain(Clock())
    with progress:
        progress.step_done(1, DROPPED_THREE)
        progress.step_done(2, {"filter/acceptance_rate": 1.0})
    assert file.getvalue().splitlines() == ["step 1/4  4 of 7 groups kept by the filter"]


@pytest.mark.parametrize("width", [80, 120])
def test_display_fits_the_terminal(width: int) -> None:
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, force_terminal=True, width=width)
    with Progress(1000, True, console, clock) as progress:
        for step in range(998, 1001):
            progress.stage("rollout")
            progress.episodes(512)
            for _ in range(511):
                clock.now += 60
                progress.episode_done(summary(True))
            progress._live.refresh()
            progress.step_done(step, {"rollout/success_rate": 1.0, "val/success_rate": 1.0})
    shown = Text.from_ansi(file.getvalue()).plain
    assert "rolling out" in shown
    assert "511/512 episodes" in shown
    assert "success 100%" in shown
    assert "8:31:00 left" in shown
    assert "1000/1000 steps" in shown
    assert max(cell_len(line) for line in shown.splitlines()) <= width


def test_time_left_after_a_resume_counts_only_this_runs_steps() -> None:
    clock = Clock()
    progress, file = plain(clock)
    with progress:
        clock.now = 30
        progress.step_done(3, {})
        progress.stage("rollout")
    assert file.getvalue() == "step 4/4 (0:30 left)  rolling out\n"


def test_the_time_left_has_the_validations_that_are_still_to_come() -> None:
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, force_terminal=False)
    with Progress(5, True, console, clock, test_freq=2) as progress:  # after steps 2, 4 and 5
        progress.stage("validation")
        clock.now += 100
        for step in range(1, 6):
            progress.stage("rollout")
            clock.now += 20
            progress.stage("update")
            clock.now += 10
            if step in (2, 4, 5):
                progress.stage("validation")
                clock.now += 50 if step == 2 else 60
            progress.step_done(step, {})
    assert file.getvalue().splitlines() == [
        "step 1/5  validating",
        "step 1/5  rolling out",
        "step 1/5  updating",
        "step 2/5 (7:00 left)  rolling out",  # four steps of 30 s, and three validations of 100 s
        "step 2/5 (6:40 left)  updating",
        "step 2/5 (6:30 left)  validating",
        "step 3/5 (4:00 left)  rolling out",  # three steps, and two validations of 75 s
        "step 3/5 (3:40 left)  updating",
        "step 4/5 (3:30 left)  rolling out",
        "step 4/5 (3:10 left)  updating",
        "step 4/5 (3:00 left)  validating",
        "step 5/5 (1:40 left)  rolling out",  # one step, and one validation of 70 s
        "step 5/5 (1:20 left)  updating",
        "step 5/5 (1:10 left)  validating",
    ]


def test_without_validations_in_training_the_one_before_it_counts_for_nothing() -> None:
    clock = Clock()
    progress, file = plain(clock)
    with progress:
        progress.stage("validation")
        clock.now += 100
        progress.stage("rollout")
        clock.now += 30
        progress.step_done(1, {})
        clock.now += 20
        progress.stage("update")
    assert file.getvalue().splitlines()[-1] == "step 2/4 (1:10 left)  updating"


def test_log_lines_appear_above_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, file, stderr = Clock(), io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        with Progress(3, True, Console(file=file, force_terminal=True, width=80), clock):
            logging.getLogger("siirl").warning("no group survived")
        logging.getLogger("siirl").warning("the run is over")
    finally:
        logging.getLogger().removeHandler(handler)
    assert "no group survived\n" in Text.from_ansi(file.getvalue()).plain
    assert stderr.getvalue() == "the run is over\n"
