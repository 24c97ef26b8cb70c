"""What goes wrong while workers start under Ray reaches the user as a message, not as a dead actor's traceback."""

import time
from pathlib import Path

import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group
from safetensors.torch import save_file

from siirl.client.main_dag import main
from siirl.workers import cluster
from tests.workers.runs import TOY, command_line

pytestmark = pytest.mark.usefixtures("ray_cluster")


def wait_until_free(cpus: float) -> None:
    for _ in range(300):
        if ray.available_resources().get("CPU", 0.0) >= cpus:
            return
        time.sleep(0.1)
    pytest.fail(f"{ray.available_resources()} are free, not {cpus} CPUs")


def test_what_a_worker_cannot_load_is_refused_and_its_slot_given_back(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import VJEPA2Config

    weights, one_layer = tmp_path / "vjepa2", {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2}
    small = {f"pred_{name}": value for name, value in one_layer.items()}
    VJEPA2Config(crop_size=384, **one_layer, **small).save_pretrained(weights)
    save_file({"another.model": torch.zeros(1)}, weights / "model.safetensors", metadata={"format": "pt"})
    embodied = "actor_rollout_ref.embodied"
    vjepa2 = {f"{embodied}.video_encoder": "vjepa2", f"{embodied}.video_embedding_model_path": weights}
    assert main(command_line(tmp_path, policy, TOY, {"algorithm.reward": "srpo"}, vjepa2)) == 2
    error = capsys.readouterr().err
    assert f"{weights}: config.json says num_hidden_layers=1, the weights have 0 layers" in error
    assert "Traceback" not in error
    wait_until_free(4)


def test_a_busy_cluster_is_told_not_waited_for(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_free(4)
    others = placement_group([{"CPU": 4.0}])
    assert others.wait(60)
    monkeypatch.setattr(cluster, "RESERVE_SECONDS", 0.5)
    try:
        assert main(command_line(tmp_path, policy, TOY)) == 2
    finally:
        remove_placement_group(others)
    assert "1 slot needs {'CPU': 1.0}, but of the Ray cluster's {'CPU': 4.0} only {'CPU': 0.0} are free" in (
        capsys.readouterr().err
    )
