"""Sampling and training: a whole chunk as the published code imagines it, timesteps, and the loss."""

import pytest
import torch

from siirl.envs.world_model.sampler import mixed, rectified_flow_loss, sample, schedule, shift
from siirl.envs.world_model.stdit3 import STDiT3
from tests.envs.world_model.parts import fill_by_name, golden, small_parts

PUBLISHED_CHUNK = "opensora_chunk"


@pytest.mark.parametrize("reuse_condition", [True, False])
def test_a_chunk_equals_the_published_sampler(reuse_condition: bool) -> None:
    spec, given = golden(PUBLISHED_CHUNK)
    model = STDiT3(spec["transformer"]).eval()
    fill_by_name(model)
    timesteps = schedule(spec["num_sampling_steps"], spec["image_size"])
    torch.testing.assert_close(timesteps, given["timesteps"], atol=1e-3, rtol=1e-6)
    found = sample(
        model, given["condition"], given["noise"], given["actions"], timesteps, spec["image_size"], reuse_condition
    )
    expected = given["latents"]
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_timesteps_fall_evenly_at_256_pixels() -> None:
    even = torch.tensor([1000.0, 750.0, 500.0, 250.0])
    torch.testing.assert_close(schedule(4, 256), even)
    torch.testing.assert_close(schedule(4, 64, use_timestep_transform=False), even)
    # Esser et al., eq. 23, with a ratio of 64 / 512 · √4 = 1/4.
    torch.testing.assert_close(schedule(4, 64), torch.tensor([1000.0, 3000 / 7, 200.0, 1000 / 13]))


def test_shifting_keeps_the_ends_and_the_order() -> None:
    timesteps = torch.linspace(0, 1000, 101)
    for size in (64, 128, 512):
        shifted = shift(timesteps, size)
        assert shifted[0] == 0
        assert shifted[-1] == pytest.approx(1000)
        assert (shifted.diff() > 0).all()
        assert (shifted[1:-1] > timesteps[1:-1]).all() == (size > 256)


def test_the_loss_is_the_published_one() -> None:
    """With the network's own output as the velocity it would be 0; the golden value fixes which way velocities point."""
    spec, given = golden(PUBLISHED_CHUNK)
    model = STDiT3(spec["transformer"]).eval()
    fill_by_name(model)
    frames = torch.cat((given["condition"], given["latents"]), dim=2)
    drawn = torch.Generator().manual_seed(spec["loss_seed"])
    loss = rectified_flow_loss(model, frames, given["actions"], 4, spec["image_size"], drawn)
    assert loss.item() == pytest.approx(given["loss"].item(), rel=1e-4)


def test_training_lowers_the_loss() -> None:
    model, _, _ = small_parts()
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 4, 12, 4, 4, generator=generator) * 0.1 + 1
    actions = torch.randn(4, 8, 7, generator=generator)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(30):
        loss = rectified_flow_loss(model, latents, actions, 4, 64, torch.Generator().manual_seed(step % 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert model.rope.freqs.grad is None


def test_mixing_is_a_straight_line() -> None:
    data, noise = torch.zeros(1, 2, 3, 1, 1), torch.ones(1, 2, 3, 1, 1)
    found = mixed(data, noise, torch.tensor([[0.0, 250.0, 1000.0]]))
    assert found[0, 0].flatten().tolist() == [0.0, 0.25, 1.0]
