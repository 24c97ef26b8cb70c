"""A small StarVLA from nothing: its tokenizer, what it learns with the L1 loss, and the folder that the command writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siirl.client import sft as command
from siirl.config.action_noise import FILE
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.data.lerobot import Columns, Demonstrations
from siirl.policies import load_policy
from siirl.policies.base import Sampling
from siirl.policies.starvla import StarVLA
from siirl.training.lessons import RegressionLesson
from siirl.training.samples import build_samples, dataset_statistics
from siirl.training.scratch_starvla import SPECIAL, byte_tokenizer, new_starvla
from siirl.training.sft import SFTConfig, train
from tests.data.lerobot.folders import write
from tests.policies.observations import observe
from tests.policies.tiny import INSTRUCTIONS
from tests.training.demos import START, make_demo

EXAMPLE = Path(__file__).parents[2] / "examples" / "starvla" / "architecture.json"
WORDS = sorted({*" ".join(INSTRUCTIONS).split()})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny_architecture() -> dict[str, Any]:
    """The shipped one, smaller."""
    config = json.loads(EXAMPLE.read_text())
    config["starvla"]["vla_data"]["obs_image_size"] = [56, 56]
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config["text_config"] |= text | {"num_key_value_heads": 2, "vocab_size": 400}
    config["text_config"]["rope_parameters"]["mrope_section"] = [2, 3, 3]
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "patch_size": 14}
    config["vision_config"] |= vision | {"window_size": 56, "fullatt_block_indexes": [0, 1]}
    return config


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demonstrations:
    root = tmp_path_factory.mktemp("demos")
    write(root, [[make_demo(0), make_demo(1, INSTRUCTIONS[1])]])
    return command.load_demos(root, Columns(), "libero", {})


def new(demos: Demonstrations, dtype: str = "fp32") -> StarVLA:
    torch.manual_seed(0)
    return new_starvla(tiny_architecture(), WORDS, "libero_spatial", dataset_statistics(demos.demos), dtype)


def test_every_word_is_one_token_and_any_other_can_be_told() -> None:
    tokenizer = byte_tokenizer(["black", "bowl", "ramekin"], 600, "🔍")
    text = "<|im_start|>black bowl ramekin🔍🔍🔍<|im_end|>"
    assert tokenizer.encode(text).tokens == [
        "<|im_start|>",
        "black",
        "Ġbowl",
        "Ġramekin",
        "🔍",
        "🔍",
        "🔍",
        "<|im_end|>",
    ]
    assert [tokenizer.token_to_id(token) for token in (*SPECIAL, "🔍")] == list(range(8))
    unknown = tokenizer.encode("zwölf Äpfel")
    assert len(unknown.tokens) > 2
    assert tokenizer.decode(unknown.ids) == "zwölf Äpfel"
    assert tokenizer.get_vocab_size() <= 600
    again = byte_tokenizer(["black", "bowl", "ramekin"], 600, "🔍")
    assert again.get_vocab() == tokenizer.get_vocab()
    with pytest.raises(ValueError, match=r"vocab_size is 200, but special tokens and bytes are 264; raise it"):
        byte_tokenizer([], 200, "🔍")


def test_prompt_holds_the_places_of_the_actions(demos: Demonstrations) -> None:
    policy = new(demos)
    inputs = policy.prepare(observe(2))
    places = inputs["input_ids"] == policy.model.action_token
    assert places.sum(1).tolist() == [8, 8]
    images = (inputs["input_ids"] == policy.model.image_token).sum(1)
    assert images.tolist() == [4, 4], "56² in patches of 28²"
    assert inputs["images"].shape == (2, 1, 56, 56, 3)


def test_labels_are_normalised_actions(demos: Demonstrations) -> None:
    policy = new(demos)
    samples = build_samples(RegressionLesson(policy), demos, 3)
    assert samples.labels.dtype == torch.float32
    first = demos.demos[0]
    chunk = samples.labels[1].view(8, 7).numpy()
    action = dataset_statistics(demos.demos)["action"]
    low, high = (np.asarray(action[name])[:6] for name in ("min", "max"))
    np.testing.assert_allclose(chunk[:, :6], 2 * (first.actions[3:11, :6] - low) / (high - low) - 1, atol=1e-5)
    np.testing.assert_array_equal(chunk[:, 6], first.actions[3:11, 6])  # 1 opens


def test_overfits_and_comes_back_from_disk_unchanged(demos: Demonstrations, tmp_path: Path) -> None:
    policy = new(demos)
    lesson = RegressionLesson(policy)
    samples = build_samples(lesson, demos, 3)
    config = SFTConfig(steps=80, batch_size=8, lr=3e-3, warmup_steps=10, log_every=20, max_shift=0)
    history = train(lesson, samples, config)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert len(history[-1]["heldout_l1"]) == 7
    policy.save(str(tmp_path))
    assert not (tmp_path / FILE).exists(), "it has no spread yet"
    embodied = EmbodiedConfig(embodied_type="starvla")
    model = ModelConfig(path=str(tmp_path), dtype="fp32")
    again = StarVLA.load(model, embodied, torch.device("cpu"))
    assert torch.equal(again.forward(samples.inputs).mean, policy.forward(samples.inputs).mean)
    std = again.forward(samples.inputs).std
    assert std is not None
    assert std.tolist() == pytest.approx([0.1] * 7)


def test_command_writes_a_policy_for_rl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "demos", [[make_demo(0)], [make_demo(1)]])
    files = ["--architecture", str(EXAMPLE), "--vocabulary", str(START / "vocabulary.txt")]
    run = ["--suite", "libero_spatial", "--steps", "2", "--batch-size", "2", "--log-every", "2", "--threads", "1"]
    arguments = ["--demos", str(tmp_path / "demos"), *files, *run]
    assert command.main([*arguments, "--out", str(tmp_path / "policy")]) == 0, capsys.readouterr().err
    policy = load_policy(str(tmp_path / "policy"))
    assert isinstance(policy, StarVLA)
    assert 3e6 < sum(p.numel() for p in policy.model.parameters()) < 5e6
    tokens = policy.framework.vlm.processor.tokenizer.tokenize("turn on the stove and put the moka pot on it")
    assert len(tokens) == 11, "each word is one"
    chunk = policy.act(policy.prepare(observe(2)), Sampling(False, 1.0, [0, 0]))
    assert chunk.actions.shape == (2, 8, 7)
    assert command.main([*arguments, "--out", str(tmp_path / "other"), "--vision", "tower.safetensors"]) == 2
    assert "leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"starvla": {}}, "framework.name is None"),
        ({"vision_config": None}, "lacks vision_config"),
        ({"starvla": {"framework": {"name": "QwenFAST", "action_model": {"action_horizon": 8}}}}, "QwenOFT"),
    ],
)
def test_architectures_of_something_else_are_refused(change: dict[str, Any], part: str, demos: Demonstrations) -> None:
    config = {name: value for name, value in (tiny_architecture() | change).items() if value is not None}
    with pytest.raises(ValueError, match=part):
        new_starvla(config, WORDS, "libero_spatial", dataset_statistics(demos.demos))
