"""A run on Ray that is ended from outside says how it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from siirl.client.interrupts import INTERRUPTED
from tests.workers.runs import EXACT, TOY, command_line, log_of

PROGRAM = """
import functools, ray, sys
import tests.workers.toy
from siirl.client.main_dag import main
ray.init = functools.partial(ray.init, runtime_env={"worker_process_setup_hook": "tests.workers.toy.register"})
sys.exit(main())
"""


def test_sigterm_is_as_ctrl_c(policy: Path, toy: Path, tmp_path: Path) -> None:
    argv = command_line(tmp_path, policy, TOY, EXACT, {"trainer.total_training_steps": 500})
    said_to = tmp_path / "stderr"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with said_to.open("w") as stderr:
        run = subprocess.Popen([sys.executable, "-c", PROGRAM, *argv], env=environment, stderr=stderr)
    while not (tmp_path / "metrics.jsonl").exists() or not log_of(tmp_path):
        assert run.poll() is None, said_to.read_text()
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    run.wait(timeout=120)
    said = said_to.read_text()
    assert run.returncode == INTERRUPTED, said
    assert "interrupted; the same command goes on from the newest checkpoint" in said
    assert "Traceback" not in said
    assert "*** SIG" not in said, "no stack of Ray's"
    last = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["how"]) == ("end", "interrupted")
