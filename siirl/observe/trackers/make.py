"""The trackers that a config names."""

import importlib.util
import json
import os
import secrets
import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from siirl.config.keys import KEYS
from siirl.config.load import config_to_dict
from siirl.config.schema import Config
from siirl.data.files import write_atomically
from siirl.observe.trackers.base import Tracker
from siirl.observe.trackers.local import ConsoleTracker, TensorBoardTracker
from siirl.observe.trackers.remote import RemoteTracker
from siirl.observe.trackers.service import SERVICES, Start
from siirl.registry import did_you_mean

RUN_IDS = "trackers/run_ids.json"
"""In the run folder: what the run is called at each service, so that a resumed run goes on there."""


def missing_packages(config: Config) -> Iterator[str]:
    """A problem for each tracker that the config names and whose package is not installed."""
    for name in config.trainer.logger:
        if name in SERVICES and not _installed(name):
            yield (
                f'trainer.logger: {name} needs the package {name}, which is not installed. Fix: pip install "siirl[{name}]", '
                f"or leave {name} out"
            )


def _installed(package: str) -> bool:
    """Whether a package is there; a folder of that name, such as the one that W&B leaves, is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def make_trackers(config: Config, run_folder: str | Path, first_step: int = 0) -> list[Tracker]:
    """The trackers that ``trainer.logger`` names.

    TensorBoard's folder is ``trainer.tensorboard_dir``, else ``$TENSORBOARD_DIR``, else ``tensorboard/`` in ``run_folder``.

    Args:
        config: the run's config, which the services are sent once.
        run_folder: the run's folder.
        first_step: the step that the run resumes after, 0 for a new run.

    Raises:
        ValueError: a name that is no tracker's, or whose package is missing.
    """
    allowed = list(KEYS["trainer.logger"].choices or ())
    for name in config.trainer.logger:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise ValueError(f"trainer.logger: unknown tracker {name!r}; allowed: {', '.join(allowed)}.{hint}")
    for problem in missing_packages(config):
        raise ValueError(problem)
    folder = Path(run_folder).absolute()
    makers: dict[str, Callable[[], Tracker]] = {
        "console": ConsoleTracker,
        "tensorboard": lambda: _tensorboard(config, folder, first_step),
    }
    makers |= {name: partial(_service, name, config, folder, first_step) for name in SERVICES}
    return [makers[name]() for name in config.trainer.logger]


def _tensorboard(config: Config, run_folder: Path, first_step: int) -> Tracker:
    trainer = config.trainer
    folder = trainer.tensorboard_dir or os.environ.get("TENSORBOARD_DIR") or run_folder / "tensorboard"
    return TensorBoardTracker(Path(folder), f"{trainer.project_name}/{trainer.experiment_name}", first_step)


def _service(name: str, config: Config, run_folder: Path, first_step: int) -> Tracker:
    start = Start(
        project=config.trainer.project_name,
        name=config.trainer.experiment_name,
        run_id=run_id(name, run_folder, resumed=first_step > 0),
        resumed=first_step > 0,
        folder=str(run_folder),
        config=config_to_dict(config),
    )
    return RemoteTracker(name, start)


def run_id(service: str, run_folder: Path, resumed: bool) -> str:
    """The run's name at a service: that of the run that is resumed, else a new one."""
    file = run_folder / RUN_IDS
    known: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    if not resumed or service not in known:
        known[service] = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(21))
        write_atomically(file, lambda stream: stream.write(json.dumps(known).encode()))
    return known[service]
