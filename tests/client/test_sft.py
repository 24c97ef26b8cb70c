"""The command of supervised fine-tuning: it writes a policy, and refuses demonstrations and files that cannot work."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.client import sft as command
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.data.lerobot import Columns, read
from siirl.envs.libero import from_libero_gripper, to_libero_gripper
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.data.lerobot.folders import write
from tests.training.demos import START, STEPS, load, make_demo


def test_command_writes_a_policy_that_reads_every_libero_word(tmp_path: Path) -> None:
    write(tmp_path / "demos", [[make_demo(0)], [make_demo(1)]])
    files = ["--architecture", str(START / "architecture.json"), "--vocabulary", str(START / "vocabulary.txt")]
    run = ["--suite", "libero_spatial", "--steps", "2", "--batch-size", "2", "--log-every", "2", "--threads", "1"]
    assert command.main(["--demos", str(tmp_path / "demos"), *files, "--out", str(tmp_path / "policy"), *run]) == 0
    load = ModelConfig(path=str(tmp_path / "policy"), dtype="bf16")
    policy = OpenVLAOFT.load(load, EmbodiedConfig(), torch.device("cpu"))
    assert 2.5e6 < sum(p.numel() for p in policy.model.parameters()) < 3.5e6
    tokens = policy.prompts.tokens("turn on the stove and put the moka pot on it")
    assert tokens[0] == 1
    assert tokens[-1] == 4
    assert 3 not in tokens  # unknown word
    assert json.loads((tmp_path / "policy" / "dataset_statistics.json").read_text()).keys() == {"libero_spatial"}


def test_grippers_become_the_policys(tmp_path: Path) -> None:
    recorded, _ = make_demo(0)
    write(tmp_path, [[make_demo(0)]])
    raw, demo = read(tmp_path).demos[0], load(tmp_path).demos[0]
    assert set(raw.actions[:, 6]) == {-1, 1}
    np.testing.assert_array_equal(demo.actions[:, 6], np.arange(STEPS) < STEPS // 2)  # 1 opens
    np.testing.assert_array_equal(to_libero_gripper(demo.actions), recorded.actions)
    between = from_libero_gripper(np.array([[0, 0, 0, 0, 0, 0, 0.25]], np.float32))
    assert between[0, 6] == 0.75


def test_grippers_of_the_other_convention_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "libero", [[make_demo(0)]])
    recorded, frames = make_demo(1)
    write(tmp_path / "open", [[(replace(recorded, actions=from_libero_gripper(recorded.actions)), frames)]])
    sizes = {"action_token_len": 7}
    with pytest.raises(
        ValueError, match=r"of action in .* lies in \[-1, 1\]; allowed: from 0 to 1.* set --gripper libero"
    ):
        command.load_demos(tmp_path / "libero", Columns(), "open", sizes)
    with pytest.raises(
        ValueError, match=r"of action in .* lies in \[0, 1\]; allowed: from -1 to 1.* set --gripper open"
    ):
        command.load_demos(tmp_path / "open", Columns(), "libero", sizes)
    demo = command.load_demos(tmp_path / "open", Columns(), "open", sizes).demos[0]
    assert set(demo.actions[:, 6]) == {0, 1}


def with_gripper(root: Path, low: float, high: float) -> Path:
    """A dataset whose gripper actions lie between ``low`` and ``high``."""
    recorded, frames = make_demo(0)
    actions = recorded.actions.copy()
    actions[:, 6] = np.linspace(low, high, STEPS)
    write(root, [[(replace(recorded, actions=actions), frames)]])
    return root


@pytest.mark.parametrize(
    ("gripper", "low", "high"), [("open", -1e-6, 1), ("open", 0.03, 0.98), ("libero", -0.95, 1.0001)]
)
def test_grippers_almost_at_the_ends_are_accepted(gripper: str, low: float, high: float, tmp_path: Path) -> None:
    data = command.load_demos(with_gripper(tmp_path, low, high), Columns(), gripper, {"action_token_len": 7})
    grippers = data.demos[0].actions[:, 6]
    wanted = np.clip(np.linspace(low, high, STEPS), 0, 1)
    np.testing.assert_allclose(grippers, 1 - wanted if gripper == "libero" else wanted, atol=1e-6)


@pytest.mark.parametrize("gripper", ["open", "libero"])
@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 0.08, "[0, 0.08]"), (-0.5, 1, "[-0.5, 1]"), (0, 255, "[0, 255]"), (1, 1, "[1, 1]")]
)
def test_grippers_of_no_convention_are_refused(
    gripper: str, low: float, high: float, found: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"lies in {found}; allowed: from")) as caught:
        command.load_demos(with_gripper(tmp_path, low, high), Columns(), gripper, {"action_token_len": 7})
    assert "set --gripper" not in str(caught.value)


@pytest.mark.parametrize("sizes", [{"action_token_len": 6}, {"use_proprio": True, "proprio_dim": 9}])
def test_vectors_of_other_lengths_than_the_policys_are_refused(sizes: dict[str, int], tmp_path: Path) -> None:
    write(tmp_path, [[make_demo(0)]])
    with pytest.raises(ValueError, match=r"has [78] dimensions; the policy has [69]"):
        command.load_demos(tmp_path, Columns(), "libero", sizes)


@pytest.mark.parametrize(
    ("option", "content", "part"),
    [
        ("--demos", None, "is no LeRobotDataset"),
        ("--demos", "no JSON", "info.json is no LeRobotDataset description"),
        ("--architecture", None, "there is no file"),
        ("--architecture", "{", "is no JSON"),
        ("--architecture", "{}", "is not an OpenVLA config, it lacks: text_config"),
        ("--vocabulary", None, "there is no file"),
    ],
)
def test_command_refuses_input_that_cannot_work(
    option: str, content: str | None, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--architecture": START / "architecture.json", "--vocabulary": START / "vocabulary.txt"}
    given |= {"--demos": tmp_path / "demos", "--out": tmp_path / "policy", "--suite": Path("libero_spatial")}
    given[option] = wrong = tmp_path / "wrong"
    if option == "--demos":
        (wrong / "meta").mkdir(parents=True)
        wrong = wrong / "meta" / "info.json"
    if content is not None:
        wrong.write_text(content)
    assert command.main([text for name, path in given.items() for text in (name, str(path))]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert str(wrong) in error or content is None
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(
    ("instructions", "out", "message"),
    [
        (["pick up the black bowl"], "policy", "demonstrations of 1 trial were given; at least 2 are needed"),
        (
            ["Fold the towel", "pour the tea"],
            "policy",
            "--vocabulary lacks words of the prompts: fold pour tea towel; add",
        ),
        (
            ["pick up the black bowl"] * 2,
            "demos",
            "demos exists and is not an empty folder; remove it, or name another",
        ),
        (["pick up the black bowl"] * 2, "demos/meta/info.json", "info.json exists and is not an empty folder"),
        (["pick up the black bowl"] * 2, "demos/meta/info.json/policy", "info.json/policy cannot be written"),
    ],
)
def test_command_refuses_before_frames_are_decoded(
    instructions: list[str],
    out: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "demos", [[make_demo(trial, text)] for trial, text in enumerate(instructions)])
    monkeypatch.setattr(command, "build_samples", lambda *_: pytest.fail("frames were decoded"))
    files = ["--architecture", str(START / "architecture.json"), "--vocabulary", str(START / "vocabulary.txt")]
    run = ["--demos", str(tmp_path / "demos"), "--suite", "libero_spatial", "--threads", "1"]
    assert command.main([*files, *run, "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demos"]
