"""Which accelerator a simulator sees."""

import os

import pytest

from siirl.config.schema import Config
from siirl.workers.env_worker import EnvWorker


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
    EnvWorker(config, gpu=2)  # builds no simulator before its first reset
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
