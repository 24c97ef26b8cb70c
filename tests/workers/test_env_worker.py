"""What a simulator's process is made of, and which accelerator it sees."""

import os
import subprocess
import sys

import pytest

from siirl.config.schema import Config
from siirl.dag.compile import Process
from siirl.workers.env_worker import EnvWorker


def test_a_simulators_process_does_without_pytorch() -> None:
    """Importing it takes seconds and memory, once for each simulator."""
    script = "import sys, siirl.workers.env_worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("backend", "visible", "seen"),
    [("gpu", None, "2"), ("gpu", "4,5,6,7", "6"), ("cpu", "4,5,6,7", "4,5,6,7"), ("cpu", None, None)],
)
def test_a_simulator_on_a_gpu_sees_the_one_of_its_slot(
    monkeypatch: pytest.MonkeyPatch, backend: str, visible: str | None, seen: str | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")  # also puts it back after the test
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    config = Config()
    env = config.actor_rollout_ref.embodied.env
    env.env_type, env.env_name, env.sim_backend = "maniskill", "PickCube-v1", backend
    EnvWorker(config, "cuda:2", Process(1))  # builds no simulator before its first reset
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
