"""The policy that regresses actions: from published folders and saved ones, acting, and what it cannot do."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from siirl.policies import load_policy
from siirl.policies.base import POLICIES, Sampling
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.openvla_oft_l1 import OpenVLAOFTL1
from siirl.policies.prismatic.actions import NORMALIZATION
from siirl.policies.prismatic.parts import find_parts
from siirl.training.export import copy_other_files
from tests.policies.folders import edit
from tests.policies.observations import observe, row_of, select
from tests.policies.tiny import HEAD_FILE, PROJECTOR_FILE, tiny_l1, tiny_openvla_folder, tiny_parts_folder

GREEDY = Sampling(do_sample=False, temperature=1.0, seeds=[])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_parts_folder(tmp_path)


def regressed(folder: Path, **arguments: Any) -> torch.Tensor:
    policy = load_policy(folder, **arguments)
    return policy.act(policy.prepare(observe(2, wrist=True)), GREEDY).actions


def test_a_published_folder_tells_by_its_files(folder: Path) -> None:
    original, loaded = tiny_l1(), load_policy(folder)
    assert isinstance(loaded, OpenVLAOFTL1)
    assert (loaded.chunk_len, loaded.action_dim, loaded.num_images, loaded.use_proprio) == (8, 7, 2, True)
    for name, tensor in original.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    assert torch.equal(regressed(folder), original.act(original.prepare(observe(2, wrist=True)), GREEDY).actions)


def test_saved_it_is_one_file_of_weights_and_loads_back(folder: Path, tmp_path: Path) -> None:
    load_policy(folder).save(str(tmp_path / "again"))
    assert not list((tmp_path / "again").glob("*.pt"))
    assert torch.equal(regressed(tmp_path / "again"), regressed(folder))
    shutil.copy(folder / HEAD_FILE, tmp_path / "again")
    with pytest.raises(ValueError, match=rf"{HEAD_FILE} do not fit.*16 in two files: action_head\.model\.fc1\.bias"):
        load_policy(tmp_path / "again")


def test_names_without_ddps_prefix_and_safetensors_load_alike(folder: Path) -> None:
    before = regressed(folder)
    for name in (HEAD_FILE, PROJECTOR_FILE):
        state = torch.load(folder / name, weights_only=True)
        (folder / name).unlink()
        plain = {key.removeprefix("module."): tensor for key, tensor in state.items()}
        save_file(plain, (folder / name).with_suffix(".safetensors"))
    assert torch.equal(regressed(folder), before)


def test_a_chunk_is_what_the_statistics_make_of_the_regressed_numbers(folder: Path) -> None:
    policy = load_policy(folder)
    chunk = policy.act(policy.prepare(observe(2, wrist=True)), GREEDY)
    assert chunk.actions.shape == (2, 8, 7)
    assert chunk.sampled.dtype == chunk.log_probs.dtype == torch.float32
    assert torch.equal(chunk.log_probs, torch.zeros(2, 56))
    normalised = chunk.sampled.view(2, 8, 7)
    assert torch.equal(chunk.actions[..., 6], normalised[..., 6]), "the gripper's mask is false"
    torch.testing.assert_close(chunk.actions[..., 3], (normalised[..., 3] + 1) / 2 * 0.22 - 0.1)


def test_min_and_max_where_the_config_says_so(folder: Path) -> None:
    statistics = json.loads((folder / "dataset_statistics.json").read_text())
    (entry,) = statistics.values()
    edit(folder / "config.json", **{NORMALIZATION: "bounds"})
    with pytest.raises(ValueError, match=r"0 'min' and 0 'max'.*'bounds' needs one of each"):
        load_policy(folder)
    entry["action"] |= {"min": [-2.0] * 7, "max": [2.0] * 7}
    entry["proprio"] |= {"min": [-9.0] * 8, "max": [9.0] * 8}
    (folder / "dataset_statistics.json").write_text(json.dumps(statistics))
    policy = load_policy(folder)
    chunk = policy.act(policy.prepare(observe(1, wrist=True)), GREEDY)
    torch.testing.assert_close(chunk.actions[..., :6], 2 * chunk.sampled.view(1, 8, 7)[..., :6])
    np.testing.assert_allclose(
        policy.prepare(observe(1, wrist=True))["proprio"][0], observe(1).states[0] / 9, rtol=1e-5
    )
    edit(folder / "config.json", **{NORMALIZATION: "normal"})
    with pytest.raises(ValueError, match=r"normalization_type is 'normal'; allowed: bounds_q99, bounds\."):
        load_policy(folder)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_a_row_does_not_depend_on_its_batch_or_padding(dtype: str, tolerance: float) -> None:
    policy = tiny_l1(num_images=1, dtype=dtype)
    inputs = policy.prepare(observe(4))
    together = policy.act(inputs, GREEDY).actions[1]
    for variant in (policy.prepare(row_of(observe(4), 1)), select(inputs, [1])):
        assert (policy.act(variant, GREEDY).actions[0] - together).abs().max() < tolerance


def test_the_state_and_the_wrist_matter(folder: Path) -> None:
    policy = load_policy(folder)
    inputs = policy.prepare(observe(1, wrist=True))
    before = policy.act(inputs, GREEDY).actions
    for changed in ({"proprio": -inputs["proprio"]}, {"images": inputs["images"].flip(1)}):
        assert not torch.allclose(policy.act({**inputs, **changed}, GREEDY).actions, before)


def test_what_is_not_finite_shows_in_the_log_probs() -> None:
    policy = tiny_l1(num_images=1)
    torch.nn.init.constant_(policy.model.action_head.model.fc2.bias, float("inf"))
    assert policy.act(policy.prepare(observe(1)), GREEDY).log_probs.isnan().all()


def test_there_is_nothing_to_draw_or_to_train() -> None:
    policy = tiny_l1(num_images=1)
    inputs = policy.prepare(observe(1))
    with pytest.raises(ValueError, match="do_sample=True, but openvla-oft-l1 regresses actions"):
        policy.act(inputs, Sampling(True, 1.0, [1]))
    with pytest.raises(ValueError, match="this checkpoint regresses actions; it has no distribution to train by RL"):
        policy.evaluate(inputs, torch.zeros(1, 56), 1.0)
    assert {name: bool(POLICIES.get(name).untrainable) for name in POLICIES.names()} == {
        "openvla": False,
        "openvla-oft": False,
        "openvla-oft-l1": True,
        "starvla": False,
    }


def test_one_way_to_say_that_the_action_tokens_are_meant(folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"regresses actions: there is {HEAD_FILE}.*embodied_type=openvla-oft-l1"):
        load_policy(folder, "openvla-oft")
    edit(folder / "config.json", embodied_type="openvla-oft")
    policy = load_policy(folder, num_images=1)
    assert type(policy) is OpenVLAOFT
    assert policy.use_proprio
    with pytest.raises(
        ValueError, match="says embodied_type 'openvla-oft', so it cannot be loaded as 'openvla-oft-l1'"
    ):
        load_policy(folder, "openvla-oft-l1")


def test_a_projector_alone_is_one_for_action_tokens_and_survives_an_export(folder: Path, tmp_path: Path) -> None:
    (folder / HEAD_FILE).unlink()
    policy, out = load_policy(folder, num_images=1), tmp_path / "out"
    assert type(policy) is OpenVLAOFT
    assert policy.use_proprio
    out.mkdir()
    copy_other_files(folder, out)
    save_file(dict(policy.model.state_dict()), out / "model.safetensors")
    exported = load_policy(out, "openvla-oft", num_images=1)
    inputs = policy.prepare(observe(1))
    assert torch.equal(exported.act(exported.prepare(observe(1)), GREEDY).actions, policy.act(inputs, GREEDY).actions)
    with pytest.raises(
        ValueError, match=r"lies beside no action_head--<step>_checkpoint\.pt.*embodied_type=openvla-oft \(load_policy"
    ):
        load_policy(folder, "openvla-oft-l1")


def test_openvla_has_no_parts(tmp_path: Path, folder: Path) -> None:
    named = tiny_openvla_folder(tmp_path)
    edit(named / "config.json", embodied_type=None)
    shutil.copy(folder / PROJECTOR_FILE, named)
    with pytest.raises(ValueError, match=rf"lies beside {PROJECTOR_FILE}.*embodied_type=openvla-oft \(load_policy"):
        load_policy(named, "openvla")


def test_missing_surplus_and_misshaped_parameters_are_named(folder: Path) -> None:
    state = torch.load(folder / HEAD_FILE, weights_only=True)
    state["module.model.fc9.bias"] = state.pop("module.model.fc1.bias")
    state["module.model.fc2.bias"] = torch.zeros(5)
    torch.save(state, folder / HEAD_FILE)
    with pytest.raises(ValueError, match=rf"and {HEAD_FILE} and {PROJECTOR_FILE} do not fit") as error:
        load_policy(folder)
    for part in (
        "1 missing: action_head.model.fc1.bias",
        "1 surplus: action_head.model.fc9.bias",
        "1 mis-shaped: action_head.model.fc2.bias is [5] instead of [7]",
    ):
        assert part in str(error.value)


def test_without_its_projector_it_was_trained_without_proprioception(folder: Path) -> None:
    (folder / PROJECTOR_FILE).unlink()
    assert "proprio" not in load_policy(folder).prepare(observe(1, wrist=True))
    edit(folder / "config.json", use_proprio=True, proprio_dim=8)
    with pytest.raises(ValueError, match=r"4 missing: proprio_projector\.fc1\.weight"):
        load_policy(folder)


def test_several_files_of_a_part_are_named(folder: Path) -> None:
    shutil.copy(folder / HEAD_FILE, folder / "action_head--latest_checkpoint.pt")
    with pytest.raises(ValueError, match=rf"2 files of action_head: {HEAD_FILE}, action_head--latest_checkpoint\.pt"):
        load_policy(folder)


def test_only_files_of_the_published_name_are_parts(folder: Path) -> None:
    before = find_parts(folder)
    for name in ("action_head_old_backup.pt", "action_head.pt", "vision_backbone.pt"):
        shutil.copy(folder / HEAD_FILE, folder / name)
    assert find_parts(folder) == before
    (folder / HEAD_FILE).unlink()
    assert list(find_parts(folder)) == ["proprio_projector"]


def test_a_config_that_contradicts_the_files_is_refused(folder: Path) -> None:
    edit(folder / "config.json", use_proprio=False)
    with pytest.raises(ValueError, match=rf"use_proprio false, but there is {PROJECTOR_FILE}"):
        load_policy(folder)
    edit(folder / "config.json", use_proprio=None, proprio_dim=7)
    with pytest.raises(ValueError, match=r"proprio_projector\.fc1\.weight is \[32, 8\] instead of \[32, 7\]"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("file", "does"),
    [
        ("vision_backbone--150000_checkpoint.pt", "FiLM"),
        ("noisy_action_projector--150000_checkpoint.pt", "diffusion"),
    ],
)
def test_other_variants_are_refused_by_name(folder: Path, file: str, does: str) -> None:
    torch.save({}, folder / file)
    with pytest.raises(ValueError, match=rf"{file}: a checkpoint with this .*{does}.*siirl does not run"):
        load_policy(folder)


def test_film_in_the_config_and_a_diffusion_head_are_refused_by_name(folder: Path) -> None:
    edit(folder / "config.json", use_film=True)
    with pytest.raises(ValueError, match=r"config\.json: .*FiLM"):
        load_policy(folder)
    edit(folder / "config.json", use_film=None)
    torch.save({"noise_predictor.mlp_resnet.fc1.bias": torch.zeros(3)}, folder / HEAD_FILE)
    with pytest.raises(ValueError, match=rf"{HEAD_FILE}: .*diffusion"):
        load_policy(folder)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("content", ["evil", "cut short", "no pickle", "a list", "numbers", "cut safetensors"])
def test_a_file_of_anything_but_tensors_is_refused_and_runs_nothing(folder: Path, content: str) -> None:
    file = folder / HEAD_FILE
    whole = file.read_bytes()
    if content == "evil":
        torch.save({"module.model.fc1.bias": Evil(folder / "proof")}, file)
    elif content == "cut short":
        file.write_bytes(whole[: len(whole) // 2])
    elif content == "no pickle":
        file.write_bytes(b"not weights")
    elif content == "cut safetensors":
        file.unlink()
        file = file.with_suffix(".safetensors")
        file.write_bytes(b"not weights")
    else:
        torch.save([torch.zeros(3)] if content == "a list" else {"module.model.fc1.bias": 1.0}, file)
    with pytest.raises(
        ValueError, match=rf"{re.escape(file.name)} (holds no plain tensors|does not map names to tensors)"
    ):
        load_policy(folder)
    assert not (folder / "proof").exists()


def test_weights_that_are_not_merged_yet_are_missing_not_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_policy(folder)
