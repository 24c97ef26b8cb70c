"""`load_policy`, and the folders of OpenVLA that it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from siirl.config.folders import shipped_folder
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies import load_policy
from siirl.policies.base import Sampling
from siirl.policies.openvla import OpenVLA
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.policies.folders import assert_names_wrong_parameters, edit
from tests.policies.observations import observe
from tests.policies.tiny import tiny_openvla, tiny_openvla_folder, tiny_policy_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_openvla_folder(tmp_path)


def load(folder: Path, **embodied: Any) -> OpenVLA:
    settings = EmbodiedConfig(**{"action_chunks_len": 1, **embodied})
    return OpenVLA.load(ModelConfig(path=str(folder), dtype="fp32"), settings, torch.device("cpu"))


def test_a_saved_policy_says_what_it_is_and_loads_back_bit_for_bit(folder: Path) -> None:
    original, loaded = tiny_openvla(), load_policy(folder)
    assert isinstance(loaded, OpenVLA)
    for name, tensor in original.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    sampling = Sampling(True, 1.0, [1, 2])
    inputs = original.prepare(observe(2))
    assert torch.equal(original.act(inputs, sampling).actions, loaded.act(loaded.prepare(observe(2)), sampling).actions)
    assert load_policy(str(folder), dtype="bf16", center_crop=False).dtype == "bf16"


def test_oft_is_told_by_its_folder_the_shipped_one_too(tmp_path: Path) -> None:
    assert isinstance(load_policy(tiny_policy_folder(tmp_path)), OpenVLAOFT)
    shipped = shipped_folder("assets") / "start_policy"
    assert "embodied_type" not in json.loads((shipped / "config.json").read_text())
    assert isinstance(load_policy(shipped), OpenVLAOFT)


def test_published_folders_look_alike_so_the_class_must_be_named(folder: Path) -> None:
    edit(folder / "config.json", embodied_type=None)
    with pytest.raises(ValueError, match=r"look alike; give embodied_type, one of: .*openvla, openvla-oft"):
        load_policy(folder)
    policy = load_policy(folder, "openvla")
    assert (policy.chunk_len, policy.action_dim) == (1, 7)
    assert load_policy(folder, "openvla-oft").chunk_len == 8


def test_wrong_arguments_say_what_is_allowed(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown dtype 'fp16'; allowed: fp32, bf16\. Give one of them"):
        load_policy(folder, dtype="fp16")
    with pytest.raises(ValueError, match=r"unknown embodied_type 'openvl'.*Did you mean 'openvla'"):
        load_policy(folder, "openvl")
    with pytest.raises(ValueError, match=r"'libero_goal'.*libero_spatial_no_noops"):
        load_policy(folder, unnorm_key="libero_goal")
    statistics = json.loads((folder / "dataset_statistics.json").read_text())
    edit(folder / "dataset_statistics.json", libero_goal=statistics["libero_spatial_no_noops"])
    with pytest.raises(ValueError, match="it has: libero_goal, libero_spatial_no_noops"):
        load_policy(folder)
    assert load_policy(folder, unnorm_key="libero_goal").action_dim == 7


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"embodied_type": "openvla-oft"}, "says embodied_type 'openvla-oft'"),
        ({"embodied_type": None, "action_chunks_len": 8}, "says action_chunks_len 8"),
        ({"embodied_type": None, "use_proprio": True}, "says use_proprio"),
    ],
)
def test_another_policys_folder_is_refused(folder: Path, stated: dict[str, Any], said: str) -> None:
    edit(folder / "config.json", **stated)
    with pytest.raises(ValueError, match=rf"{said}, so it cannot be loaded as 'openvla'.*embodied_type=openvla-oft"):
        load(folder)


def test_another_kind_of_config_is_refused(folder: Path) -> None:
    edit(folder / "config.json", text_config=None)
    with pytest.raises(ValueError, match="not an OpenVLA config, it lacks: text_config"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "given", "fix"), [("action_chunks_len", 8, 1), ("action_token_len", 6, 7), ("num_images_in_input", 2, 1)]
)
def test_contradicting_sizes_say_what_to_set(folder: Path, key: str, given: int, fix: int) -> None:
    with pytest.raises(ValueError, match=rf"embodied\.{key} is {given}.*Set it to {fix}"):
        load(folder, **{key: given})


def test_missing_surplus_and_misshaped_parameters_are_named(folder: Path) -> None:
    assert_names_wrong_parameters(load, folder, "proprio_projector.fc1.bias", "language_model.model.norm.weight", 32)


def test_camera_views_that_nothing_tells_must_be_named(folder: Path, tmp_path: Path) -> None:
    edit(folder / "config.json", num_images_in_input=None)
    assert load_policy(folder).num_images == 1  # as all published ones of this class
    oft = tiny_policy_folder(tmp_path)
    assert load_policy(oft).num_images == 1
    with pytest.raises(ValueError, match=r"num_images_in_input is 2.*: 1\. Set it to 1 \(load_policy: num_images=1\)"):
        load_policy(oft, num_images=2)
    edit(oft / "config.json", num_images_in_input=None)
    with pytest.raises(ValueError, match=rf"{oft}.* how many camera views .*; give num_images, 1 for the main view, 2"):
        load_policy(oft)
    policy = load_policy(oft, num_images=2)
    assert policy.prepare(observe(1, wrist=True))["images"].shape[1] == 2
    with pytest.raises(ValueError, match="num_images is 3; allowed: 1"):
        load_policy(oft, num_images=3)
    policy.save(str(tmp_path / "saved"))
    assert load_policy(tmp_path / "saved").num_images == 2


@pytest.mark.parametrize("stated", [5, ["openvla"], "openvl"])
@pytest.mark.parametrize("named", ["openvla", None])
def test_a_stated_class_that_there_is_not_is_refused(folder: Path, stated: Any, named: str | None) -> None:
    edit(folder / "config.json", embodied_type=stated)
    with pytest.raises(ValueError, match=r"embodied_type is .*; allowed: .*openvla, openvla-oft") as error:
        load_policy(folder, named)
    assert str(error.value).startswith(f"{folder / 'config.json'}: embodied_type is {stated!r}")
    assert "Correct it" in str(error.value)


def test_messages_name_the_arguments_of_load_policy_too(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"embodied_type=openvla \(load_policy: embodied_type='openvla'\)"):
        load_policy(folder, "openvla-oft")
    with pytest.raises(ValueError, match=r"\(load_policy: unnorm_key\)"):
        load_policy(folder, unnorm_key="libero_goal")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"actor_rollout_ref\.model\.path in a run, with path in load_policy"):
        load_policy(folder)


def test_the_contract_needs_neither_timm_nor_transformers() -> None:
    code = (
        "import sys, siirl.policies, siirl.policies.base; heavy = {'timm', 'transformers'}; "
        "assert not heavy & sys.modules.keys(); "
        "from siirl.policies import load_policy; assert 'timm' in sys.modules; "
        "assert load_policy is siirl.policies.load_policy; assert not hasattr(siirl.policies, 'load_polic')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_or_a_gpu_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"there is no policy folder '.*nowhere'"):
        load_policy(tmp_path / "nowhere")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device is 'cuda:0', but PyTorch sees no GPU here; give device='cpu'"):
        load_policy(tmp_path, device="cuda:0")
