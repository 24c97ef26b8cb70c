"""The memory estimate counts what is there, without loading it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from siirl.config.estimate import GIB, estimate_rows, memory_estimate
from siirl.config.schema import Config
from tests.policies.tiny import adapt, tiny_policy, tiny_policy_folder

ACTING = "whole weights for acting, mostly bf16"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    save_file({"layers.0.w": torch.zeros(8, 4), "head": torch.zeros(5)}, tmp_path / "model-1.safetensors")
    save_file({"layers.1.w": torch.zeros(8, 4)}, tmp_path / "model-2.safetensors")
    config = Config()
    config.actor_rollout_ref.model.path = str(tmp_path)
    return config


def bytes_of(config: Config) -> dict[str, float]:
    return {row.name: row.gib * GIB for row in estimate_rows(config)}


def test_weights_gradients_and_moments_of_every_shard(config: Config) -> None:
    parameters = 8 * 4 + 5 + 8 * 4
    sizes = bytes_of(config)
    assert sizes["policy weights, float32"] == 4 * parameters
    assert sizes["gradients, float32"] == 4 * parameters
    assert sizes["AdamW's two moments, float32"] == 8 * parameters


@pytest.mark.parametrize("gpus", [0, 4])
def test_a_run_that_only_validates_has_whole_weights_and_simulators(config: Config, gpus: int) -> None:
    config.trainer.val_only, config.trainer.n_gpus_per_node = True, gpus
    config.actor_rollout_ref.embodied.video_embedding_model_path = "/not/read.pt"
    weights, simulators = estimate_rows(config)
    assert (weights.name, weights.gib * GIB) == (ACTING, 4 * 5 + 2 * 64)
    assert simulators.name == f"{2 * max(1, gpus)} simulators"


@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "attn.proj"]])
def test_with_adapters_only_they_have_gradients_and_moments(config: Config, tmp_path: Path, targets: list[str]) -> None:
    folder = tiny_policy_folder(tmp_path)
    model = config.actor_rollout_ref.model
    model.path, model.lora_rank, model.target_modules = str(folder), 4, targets
    policy = tiny_policy()
    whole = sum(parameter.numel() for parameter in policy.model.parameters())
    adapt(policy, trained=False, target_modules=targets)
    trained = sum(parameter.numel() for parameter in policy.model.parameters() if parameter.requires_grad)
    sizes = bytes_of(config)
    assert sizes["policy weights, float32"] == pytest.approx(4 * (whole + trained))
    assert sizes["gradients, float32"] == pytest.approx(4 * trained)
    assert sizes["AdamW's two moments, float32"] == pytest.approx(8 * trained)


def test_several_ranks_share_the_weights(config: Config) -> None:
    config.trainer.nnodes, config.trainer.n_gpus_per_node = 2, 4
    sizes = bytes_of(config)
    assert sizes["1/8 of policy weights, float32"] == 4 * 69 / 8
    assert sizes[ACTING] == 4 * 5 + 2 * 64


def test_every_kind_of_slot_has_rows_of_its_own(config: Config, tmp_path: Path) -> None:
    torch.save({"encoder": {"w": torch.zeros(10, 10)}}, tmp_path / "video.pt")
    config.actor_rollout_ref.embodied.video_embedding_model_path = str(tmp_path / "video.pt")
    config.trainer.nnodes, config.trainer.n_gpus_per_node = 2, 4
    config.cluster.component_placement = {"env": "0-3", "rollout": "3-5", "actor": "5-7"}
    sizes = {(row.where, row.name): row.gib * GIB for row in estimate_rows(config)}
    acts, both, trains = "slot of rollout+embedding", "slot of rollout+embedding+actor", "slot of actor"
    whole, shard = ACTING, "1/3 of policy weights, float32"
    assert sizes[acts, whole] == sizes[both, whole] == pytest.approx(4 * 5 + 2 * 64)
    assert sizes[trains, shard] == sizes[both, shard] == pytest.approx(4 * 69 / 3)
    assert sizes[acts, "video encoder, float32"] == sizes[both, "video encoder, float32"] == 400
    assert {name for where, name in sizes if where == acts} == {whole, "video encoder, float32"}
    assert (trains, whole) not in sizes
    assert (trains, "video encoder, float32") not in sizes
    assert sizes["machine with the most simulators", "6 simulators"] == pytest.approx(6 * 1.9 * GIB)
    text = memory_estimate(config)
    assert f"  per {acts}\n    {whole} " in text


def test_a_single_rank_shares_its_weights_with_the_rollout_of_its_slot_alone(config: Config) -> None:
    config.cluster.num_cpu_slots_per_node = 2
    config.cluster.component_placement = {"env,rollout": "0-1", "actor": "0"}
    config.algorithm.reward = "sparse"
    config.actor_rollout_ref.model.dtype = "fp32"
    whole = "whole weights for acting, float32"
    sizes = {(row.where, row.name): row.gib * GIB for row in estimate_rows(config)}
    assert sizes["slot of rollout", whole] == sizes["slot of rollout+actor", "policy weights, float32"] == 4 * 69
    assert ("slot of rollout+actor", whole) not in sizes
    assert sizes["machine", "4 simulators"] == pytest.approx(4 * 1.9 * GIB)


def test_trajectories_and_simulators(config: Config) -> None:
    env = config.actor_rollout_ref.embodied.env
    env.max_steps, env.image_size, env.num_envs = 80, 128, 3
    sizes = bytes_of(config)
    assert sizes["trajectories, at most 512 episodes"] == 512 * 11 * 128 * 128 * 3
    config.trainer.max_staleness = 1
    assert "trajectories, at most 1024 episodes" in bytes_of(config)
    assert sizes["3 simulators"] == pytest.approx(3 * 1.9 * GIB)
    env.max_texture_size = 512
    assert bytes_of(config)["3 simulators"] == pytest.approx(3 * 1.05 * GIB)
    env.env_type = "maniskill"
    assert bytes_of(config)["3 simulators"] == pytest.approx(3 * 0.9 * GIB)
    env.sim_backend = "gpu"
    assert "3 simulators" not in bytes_of(config), "not measured"


def test_only_the_encoder_of_a_video_checkpoint_counts(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "video.pt"
    torch.save({"encoder": {"w": torch.zeros(10, 10)}, "predictor": {"w": torch.zeros(99, 99)}}, file)
    config.actor_rollout_ref.embodied.video_embedding_model_path = str(file)
    assert bytes_of(config)["video encoder, float32"] == 400
    config.algorithm.reward = "sparse"
    assert "video encoder, float32" not in bytes_of(config)


@pytest.mark.parametrize("content", [{"model": {}}, {"encoder": 3}, [1]])
def test_another_checkpoint_is_no_video_encoder(config: Config, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "video.pt")
    config.actor_rollout_ref.embodied.video_embedding_model_path = str(tmp_path / "video.pt")
    with pytest.raises(ValueError, match=r"video\.pt is not a published V-JEPA 2 checkpoint"):
        estimate_rows(config)


def test_text_says_that_it_is_an_estimate_and_what_is_missing(config: Config, tmp_path: Path) -> None:
    assert "estimate" in memory_estimate(config).splitlines()[0]
    assert "published" not in memory_estimate(config)
    config.actor_rollout_ref.model.path = str(tmp_path / "elsewhere")
    assert "for the published 7B policy: actor_rollout_ref.model.path holds no" in memory_estimate(config)


def test_without_a_folder_the_published_starvla_is_counted_as_such(config: Config) -> None:
    ref = config.actor_rollout_ref
    ref.model.path, ref.embodied.embodied_type, ref.model.enable_gradient_checkpointing = "", "starvla", True
    rows = {row.name: row.gib for row in estimate_rows(config)}
    assert rows["policy weights, float32"] == pytest.approx(3.8 * 4e9 / GIB, rel=0.02)
    assert rows["bf16 copies of the weights in a forward"] == pytest.approx(6.5, abs=0.3)
    assert 0 < rows["activations of 32 chunks"] < 20
    assert "for the published 3B policy" in memory_estimate(config)
    config.critic.use_critic_model = True
    with_head = {row.name: row.gib for row in estimate_rows(config)}["policy weights, float32"]
    head = 2048 * 512 + 512 + 512 * 128 + 128 + 128 + 1
    assert (with_head - rows["policy weights, float32"]) * GIB == pytest.approx(4 * head, rel=1e-3)


def test_fewer_executed_actions_make_more_frames(config: Config) -> None:
    env = config.actor_rollout_ref.embodied.env
    env.max_steps, env.image_size = 80, 128
    config.actor_rollout_ref.embodied.num_executed_actions = 3
    assert bytes_of(config)["trajectories, at most 512 episodes"] == 512 * (27 + 1) * 128 * 128 * 3


def test_without_a_folder_the_published_policy_is_counted(config: Config) -> None:
    ref = config.actor_rollout_ref
    ref.model.path, ref.model.enable_gradient_checkpointing = "", True
    rows = {row.name: row.gib for row in estimate_rows(config)}
    assert rows["policy weights, float32"] == pytest.approx(7.541 * 4e9 / GIB, rel=0.01)
    assert rows["bf16 copies of the weights in a forward"] == pytest.approx(13.5, abs=0.2)
    assert rows["activations of 32 chunks"] == pytest.approx(8.6, abs=0.2)
