"""Policy folders: what they hold, and what is said about a broken one."""

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.base import Sampling
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.policies.folders import assert_names_wrong_parameters, edit
from tests.policies.observations import observe
from tests.policies.tiny import tiny_policy, tiny_policy_folder


def load(folder: Path, **embodied: Any) -> OpenVLAOFT:
    return OpenVLAOFT.load(ModelConfig(path=str(folder), dtype="fp32"), EmbodiedConfig(**embodied), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_policy_folder(tmp_path)


def test_a_saved_policy_loads_back_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    original, loaded = tiny_policy(), load(folder)
    for name, tensor in original.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    inputs = original.prepare(observe(2))
    sampling = Sampling(True, 1.0, [1, 2])
    assert torch.equal(original.act(inputs, sampling).actions, loaded.act(loaded.prepare(observe(2)), sampling).actions)
    loaded.save(str(tmp_path / "again"))
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_shards_and_half_precision_load_like_one_file(folder: Path) -> None:
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({name: weights[name] for name in part}, folder / shard)
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    policy = load(folder)
    assert all(torch.equal(p, weights[name].float()) for name, p in policy.model.named_parameters())
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model-00002-of-00002\.safetensors"):
        load(folder)


def test_a_large_policy_is_saved_in_shards_in_place_of_what_was_there(folder: Path) -> None:
    policy, limit = tiny_policy(seed=1), 60_000
    whole = {file.name for file in folder.iterdir()}
    policy.checkpoint.write(folder, policy.model, shard_bytes=limit)
    shards = {file.name for file in folder.glob("model-*-of-*.safetensors")}
    assert len(shards) > 2
    assert {file.name for file in folder.iterdir()} == (
        whole - {"model.safetensors"} | shards | {"model.safetensors.index.json"}
    )
    for shard in shards:
        tensors = load_file(folder / shard)
        assert len(tensors) == 1 or sum(tensor.nbytes for tensor in tensors.values()) <= limit
    for name, tensor in load(folder).model.state_dict().items():
        assert torch.equal(tensor, policy.model.state_dict()[name]), name
    tiny_policy().save(str(folder))
    assert {file.name for file in folder.iterdir()} == whole
    assert torch.equal(load(folder).model.projector.fc1.weight, tiny_policy().model.projector.fc1.weight)


def test_a_loaded_policy_does_not_depend_on_its_files_any_more(folder: Path) -> None:
    """Parameters that were mapped, not copied, would change with the file, and pages of a shard would stay in memory."""
    policy, weights = load(folder), folder / "model.safetensors"
    with open(weights, "r+b") as file:
        file.seek(weights.stat().st_size // 4)
        file.write(bytes(weights.stat().st_size // 2))
    expected = tiny_policy().model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in policy.model.state_dict().items())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "dataset_statistics.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"has no {name}.*actor_rollout_ref\.model\.path"):
        load(folder)


def test_statistics_inside_the_config_do_when_there_is_no_file(folder: Path) -> None:
    statistics = json.loads((folder / "dataset_statistics.json").read_text())
    (folder / "dataset_statistics.json").unlink()
    edit(folder / "config.json", norm_stats=statistics)
    assert load(folder).codec.bounds.high.tolist() == [0.9, 0.85, 0.75, 0.12, 0.22, 0.33, 1.0]


def test_missing_surplus_and_misshaped_parameters_are_named(folder: Path) -> None:
    assert_names_wrong_parameters(load, folder, "projector.fc9.bias", "projector.fc2.bias", 32)


MALFORMED: dict[str, tuple[str, str | bytes]] = {
    "is no JSON": ("config.json", "{"),
    "holds list, not a JSON object": ("config.json", "[]"),
    "is no tokenizer": ("tokenizer.json", "{}"),
    "is no text": ("tokenizer.json", b"\xff\xfe\x00"),
    "must map un-normalisation keys": ("dataset_statistics.json", "{}"),
    "'libero_spatial' needs 'action'": ("dataset_statistics.json", '{"libero_spatial": {"proprio": {}}}'),
    "with lists 'q01' and 'q99'": ("dataset_statistics.json", '{"libero_spatial": {"action": {"q01": [1.0]}}}'),
    "of equal length": ("dataset_statistics.json", '{"libero_spatial": {"action": {"q01": [1], "q99": [1, 2]}}}'),
    "has no 'weight_map'": ("model.safetensors.index.json", '{"metadata": {}}'),
    "is no safetensors file, or cut short": ("model.safetensors", b"not weights"),
    "preprocessor_config.json is no JSON": ("preprocessor_config.json", "means"),
    "has only one of 'means' and 'stds'": ("preprocessor_config.json", '{"means": [[0.5, 0.5, 0.5]]}'),
}


@pytest.mark.parametrize("problem", MALFORMED)
def test_a_malformed_file_is_named(folder: Path, problem: str) -> None:
    name, content = MALFORMED[problem]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"{re.escape(name)}.*{re.escape(problem.removeprefix(name + ' '))}") as error:
        load(folder)
    assert "actor_rollout_ref.model.path" in str(error.value)


def test_weights_that_were_cut_short_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file, or cut short"):
        load(folder)


def split_in_two(folder: Path) -> tuple[Path, Path]:
    """Replace ``model.safetensors`` by two shards and their index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
    for i, shard in enumerate(shards):
        save_file({name: weights[name] for name in sorted(weights)[i::2]}, shard)
    weight_map = {name: shards[i].name for i in (0, 1) for name in sorted(weights)[i::2]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return shards


@pytest.mark.parametrize("left", [0, 7, 8, 500, -1])
def test_a_shard_that_was_cut_short_is_named(folder: Path, left: int) -> None:
    """In the length of the header, in the header, and in the values."""
    shard = split_in_two(folder)[1]
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(ValueError, match=rf"{shard.name} is no safetensors file, or cut short.*download it again"):
        load(folder)


def test_an_index_that_names_an_absent_file(folder: Path) -> None:
    split_in_two(folder)
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    index.write_text(
        json.dumps({"weight_map": weight_map | {"projector.fc1.bias": "model-00003-of-00003.safetensors"}})
    )
    with pytest.raises(ValueError, match=r"has no model-00003-of-00003\.safetensors\..*model\.path"):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"])
def test_pickled_weights_are_never_read(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Evil(folder / "proof")))
    with pytest.raises(ValueError, match=rf"only as pickles \({re.escape(name)}\).*convert them to model\.safetensors"):
        load(folder)
    assert not (folder / "proof").exists()


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("name", ["vit_none_patch14", "hf-hub:someone/model"])
def test_an_unknown_timm_model_is_named(folder: Path, name: str) -> None:
    edit(folder / "config.json", timm_model_args=None, timm_model_ids=[name], timm_override_act_layers=[None])
    with pytest.raises(
        ValueError, match=rf"config\.json: timm_model_ids names '{name}', which timm [\d.]+ does not have"
    ):
        load(folder)


@pytest.mark.parametrize("size", [383, 64])
def test_a_vocabulary_without_its_padding_is_refused(folder: Path, size: int) -> None:
    """Not padded to a multiple, and too small for the tokenizer's tokens and the padding."""
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder / "config.json", text_config=text | {"vocab_size": size})
    with pytest.raises(
        ValueError, match=rf"vocab_size is {size}; it must be a multiple of pad_to_multiple_of, 64, and"
    ):
        load(folder)


def test_statistics_without_the_key_list_those_there_are(folder: Path) -> None:
    entry = json.loads((folder / "dataset_statistics.json").read_text())["libero_spatial_no_noops"]
    (folder / "dataset_statistics.json").write_text(json.dumps({"libero_object": entry, "bridge_orig": entry}))
    with pytest.raises(ValueError, match=r"'libero_spatial' is not in .*it has: bridge_orig, libero_object\.") as error:
        load(folder)
    assert "Set actor_rollout_ref.embodied.unnorm_key" in str(error.value)


def test_another_kind_of_config_is_refused(folder: Path) -> None:
    edit(folder / "config.json", text_config=None, n_action_bins=None)
    with pytest.raises(ValueError, match="not an OpenVLA config, it lacks: text_config, n_action_bins"):
        load(folder)


def test_unknown_unnorm_key_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'libero_goal'.*libero_spatial_no_noops.*unnorm_key"):
        load(folder, unnorm_key="libero_goal")


@pytest.mark.parametrize(("key", "given", "fix"), [("action_chunks_len", 5, 8), ("action_token_len", 6, 7)])
def test_contradicting_action_sizes_say_what_to_set(folder: Path, key: str, given: int, fix: int) -> None:
    with pytest.raises(ValueError, match=rf"embodied\.{key} is {given}.*Set it to {fix}"):
        load(folder, **{key: given})


def test_as_many_views_as_the_checkpoint_says(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"num_images_in_input is 2, but .* this many camera views: 1\. Set it to 1"
    ) as error:
        load(folder, num_images_in_input=2)
    assert "load_policy: num_images=1" in str(error.value)
    edit(folder / "config.json", num_images_in_input=None)  # a published config, which does not say
    assert load(folder, num_images_in_input=2).num_images == 2


def test_proprioception_needs_statistics(folder: Path) -> None:
    statistics = json.loads((folder / "dataset_statistics.json").read_text())
    del statistics["libero_spatial_no_noops"]["proprio"]
    (folder / "dataset_statistics.json").write_text(json.dumps(statistics))
    with pytest.raises(ValueError, match="use_proprio with proprio_dim 8"):
        load(folder)


def test_pixel_statistics_of_the_preprocessor_are_used_and_kept(folder: Path, tmp_path: Path) -> None:
    preprocessor = {"means": [[0.25, 0.25, 0.25]], "stds": [[0.5, 0.5, 0.5]]}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    policy = load(folder)
    grey = torch.full((1, 1, 32, 32, 3), 51, dtype=torch.uint8)
    torch.testing.assert_close(policy.model.vision_backbone.normalise(grey), torch.full((1, 3, 32, 32), -0.1))
    policy.save(str(tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "preprocessor_config.json").read_text()) == preprocessor


def test_gradient_checkpointing_follows_the_config(folder: Path) -> None:
    model = ModelConfig(path=str(folder), enable_gradient_checkpointing=True)
    assert OpenVLAOFT.load(model, EmbodiedConfig(), torch.device("cpu")).model.gradient_checkpointing
    assert not load(folder).model.gradient_checkpointing
