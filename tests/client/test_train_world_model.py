"""A small world model from recorded rollouts to an environment that a policy can act in."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tests.workers.toy as toy
from siirl.client import train_world_model
from siirl.client.dataset_folder import only_writer
from siirl.client.train_world_model import main
from siirl.config.schema import EnvConfig, WorldModelConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS
from siirl.envs.world_model.initial_states import InitialStates
from tests.training.world_model.rollouts import INSTRUCTION, SIZE, picture, write_rollouts

TINY = [
    *("--autoencoder-widths", "8,16,16", "--latent-channels", "4", "--width", "32", "--depth", "1", "--heads", "2"),
    *("--classifier-widths", "8,16", "--threads", "1", "--sampling-steps", "4", "--holdout", "0.3"),
    *("--autoencoder-steps", "250", "--autoencoder-lr", "5e-3", "--autoencoder-batch", "8"),
    *("--transformer-steps", "400", "--transformer-lr", "3e-3", "--transformer-batch", "8"),
    *("--classifier-steps", "60", "--classifier-lr", "5e-3", "--classifier-batch", "16"),
]


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rollouts")
    write_rollouts(folder)
    return folder


@pytest.fixture(scope="module")
def model(rollouts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    assert main(["--rollouts", str(rollouts), "--out", str(folder), *TINY]) == 0
    return folder


def test_it_learns_what_actions_do_and_what_success_looks_like(model: Path) -> None:
    found = json.loads((model / "training.json").read_text())
    assert (found["rollouts"], found["held_out"]) == (10, 3)
    assert found["psnr"] > found["still_psnr"] + 3, "better than to repeat the last frame"
    assert found["autoencoder_psnr"] > 20
    assert 0 < found["ssim"] < found["autoencoder_ssim"] + 0.05
    assert found["classifier_auc"] > 0.9
    assert 0 <= found["imagined_agrees"] <= 1


def test_its_folder_is_an_environment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "INSTRUCTION", INSTRUCTION)
    config = EnvConfig(
        env_type="opensora_wm",
        env_name="toy",
        num_envs=2,
        image_size=SIZE,
        world_model=WorldModelConfig(wm_env_type="toy", path=str(model), dtype="fp32", num_sampling_steps=4),
    )
    factory = ENVS.get("opensora_wm")
    (task,) = factory.tasks(config)
    assert task.num_trials == 10
    env = factory(config)
    specs = [EpisodeSpec("toy", 0, trial, "", 16, 0, 0, env_seed=3, action_seed=0) for trial in (0, 4)]
    start = env.reset([0, 1], specs)
    np.testing.assert_array_equal(start.main_images, [picture(0), picture(4)])
    actions = np.zeros((2, 8, 7), np.float32)
    actions[1, :, 0] = 0.8
    result = env.step([0, 1], actions)
    assert np.isfinite(result.rewards).all()
    dark, bright = (image.mean() for image in result.obs.main_images)
    assert bright > dark + 40, "the second light was turned up"
    env.close()
    away = replace(config.world_model, reward_model_path=str(model / "nowhere.pth"))
    with pytest.raises(ValueError, match=r"no resnet_rm.pth in .*nowhere.pth"):
        factory.tasks(replace(config, world_model=away))


def test_an_interrupted_training_goes_on(
    model: Path,
    rollouts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["--rollouts", str(rollouts), "--out", str(tmp_path / "model"), *TINY]
    with monkeypatch.context() as patch:
        patch.setattr(train_world_model, "fit_classifier", interrupt)
        with pytest.raises(KeyboardInterrupt):
            main(command)
    assert not (tmp_path / "model" / "config.json").exists()
    assert main([*command, "--transformer-steps", "5"]) == 2
    assert "the transformer in " in capsys.readouterr().err
    assert main([*command, "--width", "64"]) == 2
    assert "--width was 32 and is 64. Give what it was" in capsys.readouterr().err
    with caplog.at_level(logging.INFO):
        assert main(command) == 0
    assert "autoencoder goes on after step 250" in caplog.messages
    assert "transformer goes on after step 400" in caplog.messages
    made = sorted(file.relative_to(model) for file in model.rglob("*") if file.is_file())
    assert made == sorted(f.relative_to(tmp_path / "model") for f in (tmp_path / "model").rglob("*") if f.is_file())
    for file in made:
        if file.suffix in (".safetensors", ".json", ".pth"):
            assert (tmp_path / "model" / file).read_bytes() == (model / file).read_bytes(), file


def interrupt(*arguments: object) -> float:
    raise KeyboardInterrupt


def test_every_trial_starts_where_it_was_recorded(model: Path) -> None:
    states = InitialStates(model / "dataset")
    assert states.count(INSTRUCTION) == 10
    for trial in range(10):
        np.testing.assert_array_equal(states.frame(INSTRUCTION, trial), picture(trial % 6))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["--width", "30", "--heads", "4"], "--width 30 with --heads 4: allowed: a multiple of 16"),
        (["--autoencoder-widths", "8,8,8,8,8,8"], "needs frames whose side is a multiple of 64"),
        (["--rollouts", "nowhere"], "is no LeRobotDataset"),
    ],
)
def test_what_cannot_work_is_refused(
    rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], part: str
) -> None:
    assert main(["--rollouts", str(rollouts), "--out", str(tmp_path / "out"), *TINY, *given]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_learning_rate_that_is_too_high_is_told_and_can_be_lowered(
    rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--autoencoder-steps", "40", "--transformer-steps", "2", "--classifier-steps", "2"]
    command = ["--rollouts", str(rollouts), "--out", str(tmp_path / "out"), *TINY, *short]
    assert main([*command, "--autoencoder-lr", "1e30"]) == 2
    assert "of the autoencoder; lower its learning rate" in capsys.readouterr().err
    assert main(command) == 0


def test_rollouts_without_success_are_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rollouts(tmp_path / "failures", trials=3, speeds=(0.1,))
    assert main(["--rollouts", str(tmp_path / "failures"), "--out", str(tmp_path / "out"), *TINY]) == 2
    assert "no rollout of the training trials succeeded" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_command_at_a_time_writes_a_folder(
    rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_writer(tmp_path / "out"):
        assert main(["--rollouts", str(rollouts), "--out", str(tmp_path / "out"), *TINY]) == 2
    assert "another command is writing to it" in capsys.readouterr().err


def test_widths_that_the_networks_cannot_have_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rollouts", "x", "--out", str(tmp_path), "--autoencoder-widths", "8,12"])
    assert "allowed: multiples of 8 such as 16,32,64" in capsys.readouterr().err
