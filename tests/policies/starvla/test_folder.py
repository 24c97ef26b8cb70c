"""Run folders of StarVLA and saved policies: what loads, under which names, and what is refused."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from siirl.config.schema import ActionNoiseConfig, EmbodiedConfig, ModelConfig, StarVLAConfig
from siirl.policies import load_policy
from siirl.policies.base import Sampling
from siirl.policies.starvla import StarVLA
from siirl.policies.starvla.settings import StarVLASettings
from siirl.policies.starvla.weights import present_name
from tests.policies.folders import edit
from tests.policies.observations import observe
from tests.policies.starvla.tiny import (
    BASES,
    QWEN2_5,
    QWEN3,
    STEPS,
    framework,
    load,
    tiny_oft,
    tiny_starvla_folder,
    write_run_folder,
)

GREEDY = Sampling(False, 1.0, [1, 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_starvla_folder(tmp_path)


def change_yaml(folder: Path, key: str, value: Any) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(config, key, value, merge=False)
    OmegaConf.save(config, folder / "config.yaml")


def old_name(name: str) -> str:
    """As transformers called it before 4.52."""
    return name.replace("model.model.visual.", "model.visual.").replace("model.model.language_model.", "model.model.")


@pytest.mark.parametrize("base", [QWEN2_5, QWEN3])
def test_a_run_folder_loads_with_its_weights_statistics_and_base_model(base: str, tmp_path: Path) -> None:
    policy = load(tiny_starvla_folder(tmp_path, base))
    expected = tiny_oft(base).model.state_dict()
    own = {n: t for n, t in policy.model.state_dict().items() if not n.startswith("action_noise.")}
    assert own.keys() == expected.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in expected.items())
    assert (policy.chunk_len, policy.action_dim, policy.num_images) == (8, 7, 2)
    chunk = policy.act(policy.prepare(observe(2, wrist=True)), GREEDY)
    oft, obs = tiny_oft(base), observe(2, wrist=True)
    assert obs.wrist_images is not None
    views = [list(pair) for pair in zip(obs.main_images, obs.wrist_images, strict=True)]
    torch.testing.assert_close(chunk.sampled.view(2, 8, 7), oft.normalized_actions(views, obs.task_descriptions))


def test_names_from_before_the_renaming_and_of_wrapped_models_are_the_same_parameters(tmp_path: Path) -> None:
    folder = tiny_starvla_folder(tmp_path)
    new = torch.load(folder / "checkpoints" / STEPS, weights_only=True)
    old = {old_name(name): tensor for name, tensor in new.items()}
    assert old.keys() != new.keys()
    assert {present_name(name) for name in old} == new.keys()
    expected = load(folder).model.state_dict()
    for stored in (old, {f"module.{name}": tensor.bfloat16().float() for name, tensor in new.items()}):
        torch.save(stored, folder / "checkpoints" / STEPS)
        found = load(folder).model.state_dict()
        assert found.keys() == expected.keys()
    torch.save(old, folder / "checkpoints" / STEPS)
    assert all(torch.equal(t, expected[n]) for n, t in load(folder).model.state_dict().items())


def test_the_newest_checkpoint_is_taken_by_its_step(folder: Path) -> None:
    later = {name: torch.zeros_like(t) for name, t in tiny_oft().model.state_dict().items()}
    torch.save(later, folder / "checkpoints" / "seed7_steps_100000_pytorch_model.pt")
    assert not load(folder).model.action_model.model.fc2.weight.any()


def test_a_saved_policy_is_complete_and_loads_back_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    for base in (QWEN2_5, QWEN3):
        policy = load(tiny_starvla_folder(tmp_path / base, base), views=1)
        policy.save(str(tmp_path / base / "saved"))
        (tmp_path / base / "tiny-starvla").rename(tmp_path / base / "elsewhere")
        again = load_policy(tmp_path / base / "saved")
        assert isinstance(again, StarVLA)
        assert again.num_images == 1
        expected = policy.model.state_dict()
        assert again.model.state_dict().keys() == expected.keys()
        assert all(torch.equal(t, expected[n]) for n, t in again.model.state_dict().items())
        inputs = policy.prepare(observe(2))
        assert all(torch.equal(t, inputs[n]) for n, t in again.prepare(observe(2)).items())
        assert torch.equal(again.act(inputs, GREEDY).actions, policy.act(inputs, GREEDY).actions)
        again.save(str(tmp_path / base / "saved"))  # into the folder that it came from
        assert torch.equal(
            load(tmp_path / base / "saved").act(inputs, GREEDY).actions, policy.act(inputs, GREEDY).actions
        )


def test_load_policy_knows_a_run_folder_and_describe_says_its_sizes(folder: Path) -> None:
    policy = load_policy(folder, num_images=1)
    assert isinstance(policy, StarVLA)
    assert policy.num_images == 1
    described = StarVLA.describe(str(folder))
    assert (described.action_chunks_len, described.action_token_len) == (8, 7)
    assert (described.num_images_in_input, described.unnorm_key) == (2, "franka")


@pytest.mark.parametrize("per_dimension", [True, False])
def test_load_policy_takes_the_spread_that_was_learned(folder: Path, per_dimension: bool, tmp_path: Path) -> None:
    policy = load(folder, action_noise=ActionNoiseConfig(per_dimension=per_dimension))
    with torch.no_grad():
        policy.model.get_parameter("action_noise.log_std").fill_(-1.5)
    policy.save(str(tmp_path / "saved"))
    learned = load_policy(tmp_path / "saved").model.get_parameter("action_noise.log_std")
    assert torch.equal(learned, torch.full((7 if per_dimension else 1,), -1.5))


def test_older_configs_say_the_chunk_by_its_windows(tmp_path: Path) -> None:
    action = {"action_horizon": None, "future_action_window_size": 4, "past_action_window_size": 0}
    assert load(tiny_starvla_folder(tmp_path, **action)).chunk_len == 5


@pytest.mark.parametrize(
    ("embodied", "starvla", "said"),
    [
        (
            {"action_chunks_len": 4},
            {},
            r"embodied\.action_chunks_len is 4, but the checkpoint predicts chunks .*: 8 .*Set it to 8",
        ),
        (
            {"action_chunks_len": 5},
            {"expected_num_action_chunks": 5},
            r"embodied\.action_chunks_len is 5, .*Set it to 8",
        ),
        ({}, {"expected_num_action_chunks": 5}, r"starvla\.expected_num_action_chunks is 5, .*: 8 .*Set it to 8"),
        ({}, {"expected_action_dim": 14}, r"starvla\.expected_action_dim is 14, .*: 7 "),
        (
            {},
            {"framework_name": "QwenPI"},
            r"starvla\.framework_name is QwenPI, but the checkpoint is of the framework: QwenOFT",
        ),
        ({"action_token_len": 6}, {}, r"action_token_len is 6, but actions of 'libero' .* have 7 dimensions"),
        (
            {"unnorm_key": "frank"},
            {},
            r"'frank' is not in the checkpoint's dataset statistics; it has: franka\..*'franka'",
        ),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused_before_weights_are_read(
    folder: Path, embodied: dict[str, Any], starvla: dict[str, Any], said: str
) -> None:
    model = ModelConfig(path=str(folder), starvla=StarVLAConfig(**starvla))
    settings = EmbodiedConfig(**{"embodied_type": "starvla", "unnorm_key": "franka", **embodied})
    for ask in (
        lambda: StarVLA.load(model, settings, torch.device("cpu")),
        lambda: StarVLA.longest_prompt(model, settings, [""]),
    ):
        with pytest.raises(ValueError, match=said):
            ask()


def test_an_absent_base_model_is_named_and_how_to_get_one(folder: Path) -> None:
    change_yaml(folder, "framework.qwenvl.base_vlm", "Qwen/Qwen2.5-VL-3B-Instruct")
    with pytest.raises(
        ValueError, match=r"base_vlm of .*config\.yaml is 'Qwen/Qwen2.5-VL-3B-Instruct'.* no such folder.*hf download"
    ):
        load(folder)
    with pytest.raises(ValueError, match=r"base_vlm is '.*nowhere', but there is no such folder"):
        type(tiny_oft()).from_config(framework(), BASES / "nowhere")
    change_yaml(folder, "framework.qwenvl.base_vlm", None)
    with pytest.raises(ValueError, match="must name the base model's local folder"):
        load(folder)


def test_a_base_model_of_pickled_weights_is_not_taken_for_one_without(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(BASES / QWEN2_5, base)
    (base / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: base models are read from safetensors alone"):
        type(tiny_oft()).from_config(framework(), base)


def copy_base(to: Path) -> Path:
    to.mkdir()
    for file in (BASES / QWEN2_5).iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_base_model_inside_the_run_folder_is_found(folder: Path) -> None:
    copy_base(folder / "base")
    change_yaml(folder, "framework.qwenvl.base_vlm", "base")
    assert load(folder).folder.base_vlm == folder / "base"


def test_another_model_is_no_base(folder: Path, tmp_path: Path) -> None:
    base = copy_base(tmp_path / "base")
    edit(base / "config.json", model_type="llama", text_config=None, vision_config=None)
    change_yaml(folder, "framework.qwenvl.base_vlm", str(base))
    with pytest.raises(ValueError, match=r"qwen2_5_vl, qwen3_vl|cannot be read as a Qwen-VL"):
        load(folder)
    (base / "config.json").unlink()
    with pytest.raises(ValueError, match="cannot be read as a Qwen-VL"):
        load(folder)


def test_code_beside_a_base_model_never_runs_whoever_says_yes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copy_base(tmp_path / "base")
    (base / "its_code.py").write_text("print('code of the folder ran')\n\n\nclass Its:\n    pass\n")
    edit(base / "config.json", model_type="its_vl", auto_map={"AutoConfig": "its_code.Its"})
    change_yaml(folder, "framework.qwenvl.base_vlm", str(base))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match="cannot be read as a Qwen-VL"):
        load(folder)
    assert "code of the folder ran" not in capsys.readouterr().out


def test_a_tokenizer_that_splits_the_action_token_is_refused(folder: Path, tmp_path: Path) -> None:
    base = copy_base(tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "🔍"]
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    change_yaml(folder, "framework.qwenvl.base_vlm", str(base))
    with pytest.raises(ValueError, match=r"splits the action token '🔍' into \d+ tokens"):
        load(folder)


def test_missing_surplus_and_misshaped_parameters_are_named(folder: Path) -> None:
    file = folder / "checkpoints" / STEPS
    weights = torch.load(file, weights_only=True)
    weights["action_model.extra"] = weights.pop("action_model.model.fc2.bias")
    weights["action_model.model.fc1.bias"] = torch.zeros(3)
    torch.save(weights, file)
    with pytest.raises(ValueError, match=r"do not fit its config\.yaml") as error:
        load(folder)
    for part in (
        "1 missing: action_model.model.fc2.bias",
        "1 surplus: action_model.extra",
        "fc1.bias is [3] instead of [128]",
    ):
        assert part in str(error.value)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("code of the file ran",)


def test_code_in_a_checkpoint_never_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "checkpoints" / STEPS
    for write in (lambda: torch.save({"a": Evil()}, file), lambda: file.write_bytes(pickle.dumps({"a": Evil()}))):
        write()
        with pytest.raises(ValueError, match="holds no plain tensors"):
            load(folder)
    torch.save({"model": {"a": torch.zeros(1)}}, file)
    with pytest.raises(ValueError, match="does not map names to tensors"):
        load(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"checkpoints has no \*\.pt or \*\.safetensors"):
        load(folder)
    assert "code of the file ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("framework.name", "QwenGR00T", r"unknown framework_name 'QwenGR00T'; allowed: QwenOFT"),
        ("framework.name", None, r"framework\.name is None"),
        ("framework.action_model", None, r"no section framework\.action_model"),
        ("framework.action_model", {"action_dim": 7}, "neither action_horizon nor future_action_window_size"),
        ("framework.action_model.action_horizon", 0, r"action_horizon is 0; it must be a whole number from 1"),
        ("datasets.vla_data.obs_image_size", "large", r"obs_image_size is 'large'; it must be two sides"),
        ("datasets.vla_data.obs_image_size", [3, 224, 224], r"obs_image_size is \[3, 224, 224\]; it must be two sides"),
        ("datasets.vla_data.obs_image_size", [0, 224], r"obs_image_size is \[0, 224\]; it must be two sides"),
        (
            "datasets.vla_data.CoT_prompt",
            "Do it.",
            r"CoT_prompt is 'Do it\.'; it must be text with \{instruction\} in it",
        ),
        ("framework", None, "must have a section framework"),
    ],
)
def test_a_malformed_config_says_which_key(folder: Path, key: str, value: Any, said: str) -> None:
    change_yaml(folder, key, value)
    with pytest.raises(ValueError, match=said):
        StarVLA.load(
            ModelConfig(path=str(folder)),
            EmbodiedConfig(embodied_type="starvla", unnorm_key="franka"),
            torch.device("cpu"),
        )


def test_folders_of_other_kinds_and_broken_files_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "dataset_statistics.json").write_text("{}")
    with pytest.raises(ValueError, match="must map un-normalisation keys"):
        StarVLA.describe(str(folder))
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        StarVLA.describe(str(folder))
    (folder / "config.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="holds no YAML mapping"):
        StarVLA.describe(str(folder))
    (folder / "config.yaml").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "openvla"}))
    with pytest.raises(ValueError, match=r"no section 'starvla'.* no policy of StarVLA"):
        StarVLA.describe(str(folder))
    with pytest.raises(ValueError, match="there is no policy folder"):
        StarVLA.describe(str(tmp_path / "nowhere"))


def test_published_frames_are_224_pixels_wide_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    folder = write_run_folder(tiny_oft(), tmp_path / "run", framework(), data={})
    assert load(folder).framework.images.size == (224, 224)
    for data in (
        {"obs_image_size": [320, 240]},
        {"image_size": [320, 240]},
        {"default_image_resolution": [3, 240, 320]},
    ):
        assert StarVLASettings.read(framework(), data).image_size == (320, 240), "width and height"
    images = np.zeros((1, 48, 48, 3), np.uint8)
    assert load(folder).framework.images.resize(images[0]).shape == (112, 112, 3), "the tiny processor's most pixels"
