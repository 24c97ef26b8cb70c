"""The video model: what is imagined depends on a row's own memory, actions and seed, and follows the published order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from siirl.envs.opensora_wm import OpenSoraWorld
from siirl.envs.world_model.opensora import OpenSoraModel, OpenSoraSettings
from siirl.envs.world_model.sampler import sample, schedule
from siirl.envs.world_model.weights import ActionStatistics, WorldModelFiles, save_world_model
from tests.envs.world_model.folders import opensora_config, opensora_folder
from tests.envs.world_model.parts import SIDE, STATISTICS, small_parts

SETTINGS = OpenSoraSettings(chunk=3, image_size=SIDE, num_sampling_steps=2, dtype="fp32")
ACTION_STATISTICS = ActionStatistics(*(np.float32(STATISTICS["action"][key]) for key in ("q01", "q99")))


@pytest.fixture(scope="module")
def model() -> OpenSoraModel:
    return OpenSoraModel(*small_parts(), ACTION_STATISTICS, SETTINGS)


@pytest.fixture
def frames() -> torch.Tensor:
    """uint8 [5, SIDE, SIDE, 3]."""
    return torch.randint(0, 256, (5, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def actions() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (5, 3, 7)).astype(np.float32)


def test_a_chunk_in_the_published_order(model: OpenSoraModel, frames: torch.Tensor, actions: np.ndarray) -> None:
    transformer, vae, reward_model = small_parts()
    memory = model.begin(frames)
    with torch.no_grad():
        first = vae.encode(frames.permute(0, 3, 1, 2) / 127.5 - 1)
        torch.testing.assert_close(memory, first[:, :, None].expand(-1, -1, 4, -1, -1))
        noise = torch.stack([torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(s)) for s in range(5)])
        wanted = torch.from_numpy(ACTION_STATISTICS.normalise(actions))
        latents = sample(transformer, memory, noise, wanted, schedule(2, SIDE), SIDE)
        decoded = torch.stack([vae.decode(row.transpose(0, 1)) for row in latents])
        found = model.imagine(memory, actions, range(5))
        assert found.finite.tolist() == [True] * 5
        torch.testing.assert_close(found.memory, torch.cat((memory[:, :, -1:], latents), dim=2))
        levels = ((decoded + 1) * 127.5).clamp(0, 255).permute(0, 1, 3, 4, 2)
        assert found.frames.shape == (5, 3, SIDE, SIDE, 3)
        below = levels - found.frames
        assert below.min() > -1e-3
        assert below.max() < 1 + 1e-3
        probability = reward_model(found.frames.flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1)
        torch.testing.assert_close(model.success(found.frames), probability.view(5, 3))


def test_rows_do_not_see_each_other(model: OpenSoraModel, frames: torch.Tensor, actions: np.ndarray) -> None:
    """Any subset of the rows, in any order, is imagined as in the whole batch; so is the chunk after it."""
    seeds = [3, 1, 4, 1, 5]
    memory = model.begin(frames)
    first = model.imagine(memory, actions, seeds)
    second = model.imagine(first.memory, -actions, seeds)
    some = [4, 1]
    found = model.imagine(model.begin(frames[some]), actions[some], [seeds[i] for i in some])
    torch.testing.assert_close(found.memory, first.memory[some], atol=1e-5, rtol=1e-5)
    after = model.imagine(found.memory, -actions[some], [seeds[i] for i in some])
    torch.testing.assert_close(after.memory, second.memory[some], atol=1e-5, rtol=1e-5)
    assert (after.frames.int() - second.frames[some].int()).abs().max() <= 1


def test_the_same_seed_gives_the_same_bits(model: OpenSoraModel, frames: torch.Tensor, actions: np.ndarray) -> None:
    memory = model.begin(frames)
    torch.manual_seed(0)
    first = model.imagine(memory, actions, range(5))
    torch.manual_seed(1)
    again = model.imagine(memory, actions, range(5))
    other = model.imagine(memory, actions, range(1, 6))
    assert torch.equal(first.memory, again.memory)
    assert torch.equal(first.frames, again.frames)
    assert (first.memory - other.memory).flatten(1).abs().amax(1).min() > 1e-3


def test_actions_matter(model: OpenSoraModel, frames: torch.Tensor, actions: np.ndarray) -> None:
    memory = model.begin(frames)
    first = model.imagine(memory, actions, range(5)).memory
    changed = actions.copy()
    changed[2, 2] += 1  # the last action, which leads to the last frame alone
    second = model.imagine(memory, changed, range(5)).memory
    difference = (first - second).abs().amax(dim=(1, 3, 4))
    assert difference[2, -1] > 1e-4
    difference[2, -1] = 0
    assert difference.max() < 1e-5


def test_a_row_that_is_not_finite_spoils_no_other(
    model: OpenSoraModel, frames: torch.Tensor, actions: np.ndarray
) -> None:
    memory = model.begin(frames).clone()
    clean = model.imagine(memory, actions, range(5))
    memory[3, 0, 0, 0, 0] = torch.nan
    found = model.imagine(memory, actions, range(5))
    assert found.finite.tolist() == [True, True, True, False, True]
    assert (found.frames[3] == 0).all()
    others = [0, 1, 2, 4]
    torch.testing.assert_close(found.memory[others], clean.memory[others], atol=1e-5, rtol=1e-5)


def test_a_memory_longer_than_a_chunk_keeps_older_frames(frames: torch.Tensor) -> None:
    model = OpenSoraModel(*small_parts(), ACTION_STATISTICS, replace(SETTINGS, chunk=1))
    memory = model.begin(frames).clone()
    memory += torch.arange(4)[:, None, None]
    found = model.imagine(memory, np.zeros((5, 1, 7), np.float32), range(5))
    assert torch.equal(found.memory[:, :, :3], memory[:, :, 1:])


def test_loaded_bfloat16_stays_near(frames: torch.Tensor, actions: np.ndarray, tmp_path: Path) -> None:
    save_world_model(tmp_path, *small_parts(), STATISTICS)
    files = WorldModelFiles.find(tmp_path)
    exact = OpenSoraModel.load(files, SETTINGS, "cpu")
    expected = exact.imagine(exact.begin(frames), actions, range(5)).memory
    half = OpenSoraModel.load(files, replace(SETTINGS, dtype="bf16"), "cpu")
    found = half.imagine(half.begin(frames), actions, range(5))
    assert found.memory.dtype == torch.bfloat16
    assert half.success(found.frames).dtype == torch.float32
    assert 0 < (found.memory.float() - expected).norm() / expected.norm() < 0.05


def test_weights_wait_elsewhere() -> None:
    """Offloading moves every parameter; ``meta`` stands for another device."""
    parts = small_parts()
    moved = OpenSoraModel(*parts, ACTION_STATISTICS, SETTINGS)
    moved.to("meta")
    assert moved.device.type == "meta"
    assert {tensor.device.type for part in parts for tensor in part.state_dict().values()} == {"meta"}


def test_frames_of_another_size_are_refused(model: OpenSoraModel, frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[S, 16, 16, 3\], not torch\.uint8 \[5, 8, 16, 3\]"):
        model.begin(frames[:, :8])
    with pytest.raises(ValueError, match=r"not torch\.float32"):
        model.begin(frames.float())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"condition_frames": 2}, r"trained with 4 condition frames .* condition_frame_length is 2; set it to 4"),
        ({"image_size": 17}, "image_size=17 must be a multiple of 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OpenSoraModel(*small_parts(), ACTION_STATISTICS, replace(SETTINGS, **change))


def test_parts_that_do_not_fit_are_refused() -> None:
    from siirl.envs.world_model.vae import AutoencoderKL
    from tests.envs.world_model.parts import VAE

    transformer, vae, reward_model = small_parts()
    other = AutoencoderKL(VAE | {"latent_channels": 3})
    with pytest.raises(ValueError, match="latents of 4 channels, but the autoencoder's have 3"):
        OpenSoraModel(transformer, other, reward_model, ACTION_STATISTICS, SETTINGS)
    short = ActionStatistics(np.zeros(6, np.float32), np.ones(6, np.float32))
    with pytest.raises(ValueError, match="actions of 6 numbers, but the world model takes 7"):
        OpenSoraModel(transformer, vae, reward_model, short, SETTINGS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"condition_frame_length": 2}, r"condition_frame_length is 2; set it to 4"),
        ({"stats_path": "short.json"}, "actions of 1 numbers, but the world model takes 7"),
        ({"stats_path": "none.json"}, "no dataset_statistics.json in .*none.json"),
    ],
)
def test_what_does_not_fit_is_told_before_weights_are_read(tmp_path: Path, change: dict, told: str) -> None:
    config = opensora_config(opensora_folder(tmp_path))
    (tmp_path / "short.json").write_text('{"action": {"q01": [0], "q99": [1]}}')
    if "stats_path" in change:
        change = {"stats_path": str(tmp_path / change["stats_path"])}
    for file in (tmp_path / "model-00001.safetensors", tmp_path / "resnet_rm.pth"):
        file.write_bytes(b"no weights")
    OpenSoraWorld.tasks(config)
    with pytest.raises(ValueError, match=told):
        OpenSoraWorld.tasks(replace(config, world_model=replace(config.world_model, **change)))
