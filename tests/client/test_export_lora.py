"""A run with LoRA adapters, from its first step to the folders that are taken out of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from siirl.client import export as command
from siirl.client import main_dag
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.policies.folders import edit
from tests.policies.observations import observe
from tests.policies.tiny import PROJECTOR_FILE, tiny_policy_folder
from tests.workers.runs import BY_SEED, EXACT, INLINE, TOY, assert_same_weights, command_line, weights_of

LORA = {
    "actor_rollout_ref.model.lora_rank": 2,
    "actor_rollout_ref.model.lora_alpha": 4,
    "actor_rollout_ref.model.target_modules": "all-linear",
    "actor_rollout_ref.actor.optim.lr": 0.02,
}
SETTINGS = (TOY, EXACT, INLINE, BY_SEED, LORA)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start policy like published ones: in bf16, its proprioception projector in a file of its own."""
    folder = tiny_policy_folder(tmp_path_factory.mktemp("start"), seed=5)
    file = folder / "model.safetensors"
    weights = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    own = [name for name in weights if name.startswith("proprio_projector.")]
    part = {name.replace("proprio_projector.", "module."): weights.pop(name) for name in own}
    torch.save(part, folder / PROJECTOR_FILE)
    save_file(weights, file, metadata={"format": "pt"})
    edit(folder / "config.json", use_proprio=None, proprio_dim=None)
    return folder


@pytest.fixture(scope="module")
def run(toy: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("run")
    assert main_dag.main(command_line(folder, start, *SETTINGS)) == 0
    return folder


def load(folder: Path, **lora: int) -> OpenVLAOFT:
    settings = ModelConfig(path=str(folder), dtype="fp32", **lora)
    return OpenVLAOFT.load(settings, EmbodiedConfig(), torch.device("cpu"))


def logits(policy: OpenVLAOFT) -> torch.Tensor:
    with torch.no_grad():
        return policy.bin_logits(policy.prepare(observe(2)))


@pytest.fixture(scope="module")
def trained(run: Path, start: Path) -> torch.Tensor:
    """The logits of the start policy with the adapters of step 2, as the run's rollout has them."""
    policy = load(start, lora_rank=2, lora_alpha=4)
    saved = weights_of(run, 2)
    adapters = {name.removeprefix("model."): value for name, value in saved.items() if name.startswith("model.")}
    wrong = policy.model.load_state_dict(adapters, strict=False)
    assert not wrong.unexpected_keys
    assert not any(".lora_" in name for name in wrong.missing_keys)
    return logits(policy)


def test_the_exported_policy_is_the_merged_one(run: Path, start: Path, trained: torch.Tensor, tmp_path: Path) -> None:
    assert command.main([str(run), str(tmp_path)]) == 0
    weights, before = load_file(tmp_path / "model.safetensors"), load(start).model.state_dict()
    assert {name: t.shape for name, t in weights.items()} == {name: t.shape for name, t in before.items()}
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    changed = {name for name, tensor in weights.items() if not torch.equal(tensor, before[name])}
    assert {"language_model.model.layers.0.self_attn.q_proj.weight", "proprio_projector.fc2.weight"} <= changed
    assert not {"language_model.lm_head.weight", "language_model.model.embed_tokens.weight"} & changed
    torch.testing.assert_close(logits(load(tmp_path)), trained, rtol=1e-5, atol=1e-5)
    assert (logits(load(start)) - trained).abs().max() > 1e-2, "the run has trained"


def test_peft_loads_the_adapters_alone(
    run: Path, start: Path, trained: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(run), str(tmp_path), "--adapters"]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.library_name, "lora" in card.data.tags) == ("peft", True)
    assert "adapters of rank 2" in card.text
    assert f"belong to  {start}" in capsys.readouterr().out
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4)
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text().partition("## LoRA adapters alone")[2]
    example = page.partition("```python\n")[2].partition("```")[0]
    seen: dict[str, Any] = {}
    code = example.replace("START_POLICY", str(start)).replace("ADAPTERS", str(tmp_path))
    exec(compile(code, "docs/checkpoints.md", "exec"), seen)  # noqa: S102  (our own page)
    policy, adapted = seen["policy"], seen["adapted"]
    loaded = policy.model.state_dict()
    saved = {name.removeprefix("model."): value for name, value in weights_of(run, 2).items()}
    adapters = {name: tensor for name, tensor in loaded.items() if ".lora_" in name}
    assert_same_weights(adapters, {name: saved[name] for name in saved if ".lora_" in name and name in loaded})
    torch.testing.assert_close(logits(policy), trained, rtol=1e-5, atol=1e-5)
    adapted.merge_and_unload()
    assert command.main([str(run), str(tmp_path / "merged")]) == 0
    assert_same_weights(dict(policy.model.state_dict()), load_file(tmp_path / "merged" / "model.safetensors"))


def test_adapters_are_not_merged_into_another_policy(
    run: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even if only a part beside the weights is another one."""
    changed = Path(shutil.copytree(start, tmp_path / "changed"))
    part = torch.load(changed / PROJECTOR_FILE, weights_only=True)
    part["module.fc1.bias"][0] += 1
    torch.save(part, changed / PROJECTOR_FILE)
    assert command.main([str(run), str(tmp_path / "out"), "--policy", str(changed)]) == 2
    assert "holds other weights than those" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_goes_on_in_the_same_bits_and_only_with_the_same_adapters(
    run: Path, toy: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps in (1, 2):
        arguments = command_line(tmp_path, start, *SETTINGS, {"trainer.total_training_steps": steps})
        assert main_dag.main(arguments) == 0
    assert_same_weights(weights_of(tmp_path, 2), weights_of(run, 2))
    capsys.readouterr()
    assert main_dag.main([*arguments, "actor_rollout_ref.model.lora_alpha=8"]) == 2
    assert "actor_rollout_ref.model.lora_alpha=8: allowed: 4, as in the run of" in capsys.readouterr().err
