"""The process of a tracker that speaks to a server: ``python -m siirl.observe.trackers.service NAME START.json``.

It reads rows of metrics, a line of JSON each, from its input until that ends. When the service cannot be reached at the start, it
begins anew with the library's own offline mode, whose files can be sent later. It imports nothing heavy but the library.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import psutil

log = logging.getLogger(__name__)

OFFLINE = "--offline"
NICE = 10
"""The run goes first."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """What a run at a service begins with.

    Attributes:
        project, name: as the config says.
        run_id: the run's own, at services that have such.
        resumed: whether it goes on.
        folder: the run folder.
        config: the whole config.
        start_seconds, finish_seconds: longest time that the service may take to begin the run, and to end it.
    """

    project: str
    name: str
    run_id: str
    resumed: bool
    folder: str
    config: dict[str, Any]
    start_seconds: float = 30.0
    finish_seconds: float = 30.0


class Service(Protocol):
    """A run at a service."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step."""
        ...

    def finish(self) -> None:
        """Send what is left."""
        ...


class Wandb:
    """Weights & Biases. The step is a metric like any other: the service's own steps cannot go back, as a resumed run does."""

    def __init__(self, start: Start, offline: bool, say: Say) -> None:
        import wandb

        settings = wandb.Settings(console="off", disable_git=True, save_code=False, init_timeout=start.start_seconds)
        self._run = wandb.init(
            project=start.project,
            name=start.name,
            id=start.run_id,
            resume="allow",
            dir=start.folder,
            config=start.config,
            allow_val_change=True,
            mode="offline" if offline else None,
            settings=settings,
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        folder = Path(self._run.dir).parent
        say(self._run.url or f"recorded in {folder}; `wandb sync {folder}` sends it")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Service.log`."""
        self._run.log({"step": step, **metrics})

    def finish(self) -> None:
        """See `Service.finish`."""
        self._run.finish()


class SwanLab:
    """SwanLab."""

    def __init__(self, start: Start, offline: bool, say: Say) -> None:
        import swanlab

        self._swanlab = swanlab
        folder = Path(start.folder) / "swanlog"
        run = swanlab.init(
            project=start.project,
            name=start.name,
            id=start.run_id,
            resume="allow",
            log_dir=str(folder),
            config=start.config,
            mode="offline" if offline else None,
        )
        try:
            say(run.url)
        except ValueError:  # none but in its online mode
            say(f"recorded in {folder}; `swanlab sync` sends what lies there")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Service.log`."""
        self._swanlab.log(dict(metrics), step=step)

    def finish(self) -> None:
        """See `Service.finish`."""
        self._swanlab.finish()


class Trackio:
    """Trackio, which keeps runs in a database of the user's, and at a Space or server if its environment names one.

    It knows a run by its name alone, which therefore ends with a part of the run's id; runs of one name are a group.
    """

    def __init__(self, start: Start, offline: bool, say: Say) -> None:
        if offline:
            for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
                os.environ.pop(variable, None)
        import trackio

        name, resume = f"{start.name}-{start.run_id[:6]}", "allow" if start.resumed else "never"
        self._run = trackio.init(
            project=start.project, name=name, group=start.name, resume=resume, config=start.config, embed=False
        )
        say(f"`trackio show --project {start.project}` shows the run {name}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Service.log`."""
        self._run.log(dict(metrics), step=step)

    def finish(self) -> None:
        """See `Service.finish`."""
        self._run.finish()


SERVICES: dict[str, Callable[[Start, bool, Say], Service]] = {"wandb": Wandb, "swanlab": SwanLab, "trackio": Trackio}
"""Named like their packages."""


def main(argv: list[str]) -> int:
    """Run the process; returns its exit code."""
    os.nice(NICE)
    pipes = Pipes()
    name, file, *mode = argv
    start = Start(**json.loads(Path(file).read_text()))
    service = begin(name, start, OFFLINE in mode, pipes)
    for line in pipes.rows:
        row = json.loads(line)
        service.log(row.pop("step"), {key: value for key, value in row.items() if value is not None})
    late = _after(start.finish_seconds, lambda: _give_up(pipes))
    service.finish()
    late.cancel()
    return 0


class Pipes:
    """What connects the process with the run: rows come in, and what is told goes out. Libraries find an empty input instead, and
    print where errors go.

    Attributes:
        rows: lines of JSON.
    """

    def __init__(self) -> None:
        self.rows, self._told = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        self._environment = dict(os.environ)

    def say(self, text: str) -> None:
        """Tell the run, unless it has ended."""
        with suppress(BrokenPipeError):
            print(" ".join(text.split()), file=self._told)

    def begin_anew(self, *more: str) -> NoReturn:
        """Start the process again, with more arguments and without what the library has started; for any thread. No row may have
        been read."""
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os.dup2(self.rows.fileno(), 0)
        os.dup2(self._told.fileno(), 1)
        command = [sys.executable, "-m", "siirl.observe.trackers.service", *sys.argv[1:], *more]
        os.execve(sys.executable, command, self._environment)


def begin(name: str, start: Start, offline: bool, pipes: Pipes) -> Service:
    """The service's run. What cannot be reached, or takes too long, begins anew offline."""

    def anew(why: str) -> NoReturn:
        pipes.say(f"cannot be reached ({why}); the run is recorded offline")
        pipes.begin_anew(OFFLINE)

    if offline:
        return SERVICES[name](start, True, pipes.say)
    late = _after(start.start_seconds, lambda: anew(f"no answer within {start.start_seconds:g} s"))
    try:
        service = SERVICES[name](start, False, pipes.say)
    except Exception as error:
        late.cancel()
        log.exception("begins anew")
        anew(f"{type(error).__name__}: {error}")
    late.cancel()
    return service


def _give_up(pipes: Pipes) -> None:
    pipes.say("not everything could be sent in time")
    os._exit(1)


def _after(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
