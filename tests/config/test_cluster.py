"""What machines, backend and placement refuse and allow."""

from pathlib import Path
from typing import Any

import pytest

from siirl.config.checks import check_config
from siirl.config.keys import set_value
from siirl.config.schema import Config
from tests.config.folders import policy_folder

REF = "actor_rollout_ref"
FSDP = f"{REF}.actor.fsdp_config"
EMBEDDING_OFFLOAD = f"{REF}.embodied.embedding_model_offload"
PLACEMENT, STALENESS = "cluster.component_placement", "trainer.max_staleness"
CPU_SLOTS, GPUS, NODES = "cluster.num_cpu_slots_per_node", "trainer.n_gpus_per_node", "trainer.nnodes"
APART = {CPU_SLOTS: 4, PLACEMENT: {"env,rollout": "0-1", "actor": "2-3"}}


def problems(tmp_path: Path, values: dict[str, Any]) -> list[str]:
    config = Config()
    config.actor_rollout_ref.model.path = str(policy_folder(tmp_path))
    for key, value in values.items():
        set_value(config, key, value)
    return check_config(config)


@pytest.mark.parametrize(
    ("values", "blamed", "part"),
    [
        ({CPU_SLOTS: 2, GPUS: 1}, f"{CPU_SLOTS}=2", f"1 with {GPUS}=1"),
        ({"trainer.deterministic": True, GPUS: 1}, "trainer.deterministic=true", f"{GPUS}=0"),
        ({"trainer.backend": "inline", NODES: 2}, f"{NODES}=2", "trainer.backend=ray"),
        ({"trainer.backend": "inline", GPUS: 2}, f"{GPUS}=2", "one process on one slot"),
        ({"trainer.backend": "inline", CPU_SLOTS: 2}, f"{CPU_SLOTS}=2", f"Fix: {CPU_SLOTS}=1"),
        ({f"{FSDP}.param_offload": True}, f"{FSDP}.param_offload=true", f"{GPUS}=0"),
        ({f"{FSDP}.grad_offload": True}, f"{FSDP}.grad_offload=true", "no accelerator"),
        ({f"{FSDP}.optimizer_offload": True}, f"{FSDP}.optimizer_offload=true", "no accelerator"),
        (
            {EMBEDDING_OFFLOAD: True, f"{REF}.embodied.video_encoder": "vjepa2", "dry_run": True},
            f"{EMBEDDING_OFFLOAD}=true",
            "no accelerator",
        ),
        ({f"{FSDP}.param_offload": True, GPUS: 1}, f"{FSDP}.param_offload=true", "1 actor slot (0), where the rollout"),
        (
            {f"{FSDP}.param_offload": True, GPUS: 4, PLACEMENT: {"env,rollout": "0-2", "actor": "3"}},
            f"{FSDP}.param_offload=true",
            "1 actor slot (3), whose parameters are not sharded; true takes at least 2",
        ),
        ({STALENESS: 1}, f"{STALENESS}=1", "0 while rollout and actor share slots (0)"),
        ({STALENESS: 1, GPUS: 8}, f"{STALENESS}=1", "share slots (0-7)"),
        ({STALENESS: 1, "trainer.backend": "inline"}, f"{STALENESS}=1", "with trainer.backend=inline, and while"),
        (
            {**APART, STALENESS: 1, "trainer.deterministic": True},
            f"{STALENESS}=1",
            "0 with trainer.deterministic=true. Fix",
        ),
        ({f"{REF}.actor.behavior_weight_cap": 2.0}, f"{REF}.actor.behavior_weight_cap=2.0", f"5.0 with {STALENESS}=0"),
    ],
    ids=str,
)
def test_impossible(tmp_path: Path, values: dict[str, Any], blamed: str, part: str) -> None:
    (line,) = problems(tmp_path, values)
    assert line.startswith(f"{blamed}: allowed: ")
    assert part in line
    assert " Fix: " in line


@pytest.mark.parametrize(
    "values",
    [
        {NODES: 2, GPUS: 8},
        {NODES: 3, CPU_SLOTS: 4},
        {"trainer.deterministic": True, CPU_SLOTS: 4},
        {"trainer.backend": "inline", GPUS: 1},
        {f"{FSDP}.optimizer_offload": True, GPUS: 1},
        {f"{FSDP}.param_offload": True, GPUS: 2},
        {f"{FSDP}.param_offload": True, GPUS: 4, PLACEMENT: {"env,rollout": "0-1", "actor": "2-3"}},
        {f"{FSDP}.param_offload": True, "trainer.val_only": True},
        {**APART, STALENESS: 1},
        {**APART, STALENESS: 3, f"{REF}.actor.behavior_weight_cap": 2.0},
        {STALENESS: 1, "trainer.val_only": True},
    ],
    ids=str,
)
def test_possible(tmp_path: Path, values: dict[str, Any]) -> None:
    assert problems(tmp_path, values) == []
