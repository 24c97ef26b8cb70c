"""The memory estimate counts a world model: from its files, and as published where there are none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from siirl.config.activations import BF16, FP32
from siirl.config.estimate import GIB, estimate_rows, memory_estimate
from siirl.config.imagination import PUBLISHED, Sizes, read_sizes, world_model_bytes
from siirl.config.load import load_config
from siirl.config.schema import Config
from siirl.envs.opensora_wm import find_files
from siirl.envs.world_model.opensora import OpenSoraModel, OpenSoraSettings
from siirl.envs.world_model.reward_model import RewardModel
from siirl.envs.world_model.stdit3 import STDiT3
from siirl.envs.world_model.vae import AutoencoderKL
from tests.envs.world_model.folders import SIZE, opensora_config, opensora_folder
from tests.envs.world_model.parts import small_parts


def elements(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def test_the_published_sizes_are_those_of_the_networks_themselves() -> None:
    with torch.device("meta"):
        transformer, vae, classifier = STDiT3({}), AutoencoderKL({}), RewardModel()
    assert PUBLISHED.parameters == elements(transformer) + elements(vae)
    assert PUBLISHED.classifier == 4 * elements(classifier)
    assert (PUBLISHED.width, PUBLISHED.depth) == (transformer.config.hidden_size, transformer.config.depth)


def test_sizes_are_read_from_the_files(tmp_path: Path) -> None:
    env = opensora_config(opensora_folder(tmp_path))
    transformer, vae, classifier = small_parts()
    found = read_sizes(env.world_model, SIZE)
    patch = transformer.config.patch_size[-1]
    assert found == Sizes(
        parameters=elements(transformer) + elements(vae),
        width=transformer.config.hidden_size,
        depth=transformer.config.depth,
        patches=(SIZE // vae.config.downsampling // patch) ** 2,
        channels=vae.config.block_out_channels[1],
        classifier=(tmp_path / "resnet_rm.pth").stat().st_size,
    )
    assert found.classifier > 4 * elements(classifier)
    assert read_sizes(replace(env.world_model, path=str(tmp_path / "nowhere")), SIZE) is None


def test_weights_are_those_that_are_loaded(tmp_path: Path) -> None:
    env = opensora_config(opensora_folder(tmp_path))
    settings = OpenSoraSettings(image_size=SIZE, dtype="fp32")
    model = OpenSoraModel.load(find_files(env.world_model), settings, "cpu")
    parts = (model._transformer, model._vae, model._reward_model)
    loaded = sum(t.numel() * t.element_size() for part in parts for t in part.state_dict().values())
    assert world_model_bytes(env, 2)["world model, fp32"] == pytest.approx(loaded, rel=0.1)


def planned(*settings: str) -> Config:
    return load_config("opensora_libero_spatial_grpo_openvlaoft", ["dry_run=true", *settings])


def test_a_plan_tells_what_each_slot_holds() -> None:
    config = planned()
    rows = {(row.where, row.name): row.gib for row in estimate_rows(config)}
    slots = config.actor_rollout_ref.embodied.env.num_envs
    assert rows["slot", "world model, bf16"] * GIB == BF16 * PUBLISHED.parameters + PUBLISHED.classifier
    chunks = rows["slot", f"{slots} chunks imagined together"]
    past = 2 * 4 * 28 * 256 * 1152 * BF16
    assert chunks * GIB > slots * past
    one = {
        row.name: row.gib for row in estimate_rows(planned("actor_rollout_ref.embodied.env.world_model.batch_size=1"))
    }
    assert past < one["1 chunks imagined together"] * GIB < chunks * GIB
    assert "for the published XL/2 world model" in memory_estimate(config)


def test_on_a_cpu_it_is_the_machines_memory(tmp_path: Path) -> None:
    path = f"actor_rollout_ref.embodied.env.world_model.path={opensora_folder(tmp_path)}"
    config = load_config(
        "opensora_libero_spatial_grpo_openvlaoft_cpu_small", ["dry_run=true", path, "actor_rollout_ref.model.path=''"]
    )
    sizes = read_sizes(config.actor_rollout_ref.embodied.env.world_model, 128)
    assert sizes is not None
    rows = {(row.where, row.name): row.gib * GIB for row in estimate_rows(config)}
    assert rows["machine", "world model, fp32"] == FP32 * sizes.parameters + sizes.classifier
    assert "XL/2" not in memory_estimate(config)


def test_one_that_only_validates_elsewhere_has_none() -> None:
    assert not any("world model" in row.name for row in estimate_rows(planned("trainer.val_only=true")))


def test_a_slot_of_simulators_alone_holds_it() -> None:
    placed = "cluster.component_placement={env: 0-1, rollout: 2-3, actor: 4-7}"
    rows = {row.where: row.name for row in estimate_rows(planned(placed)) if row.name.startswith("world model")}
    assert rows == {"slot of env alone": "world model, bf16"}
