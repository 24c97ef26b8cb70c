"""Stands for the package wandb: what it is asked is appended to the file in $STUB_FILE; $STUB_FAULT says how its server fails."""

import json
import os
import time
from typing import Any


def note(**what: Any) -> None:
    with open(os.environ["STUB_FILE"], "a") as file:
        print(json.dumps(what), file=file)


def fault(kind: str) -> None:
    """Fail or hang like the server's of the planned fault, of which there is none offline."""
    planned = os.environ.get("STUB_FAULT")
    if planned == f"{kind} refuses":
        raise ConnectionError("connection refused")
    if planned == f"{kind} hangs":
        time.sleep(600)
    if planned == f"{kind} dies":
        os._exit(7)


def Settings(**settings: Any) -> dict[str, Any]:  # noqa: N802
    return settings


class Run:
    url = "https://there/run"
    dir = "/where/files"

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        """Not looked at."""

    def log(self, row: dict[str, float]) -> None:
        print("chatter")
        note(row=row)
        fault("log")

    def finish(self) -> None:
        fault("finish")
        note(finished=True)


def init(**given: Any) -> Run:
    if given["mode"] != "offline":
        fault("init")
    note(**{key: given[key] for key in ("id", "name", "project", "mode", "config")})
    return Run()
