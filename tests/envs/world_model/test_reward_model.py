"""The classifier of success: golden vectors of the published network, and its widths."""

import torch

from siirl.envs.world_model.reward_model import RewardModel, widths_of
from tests.envs.world_model.parts import fill_state_by_name, golden


def test_equals_the_published_classifier() -> None:
    spec, given = golden("opensora_reward")
    model = RewardModel().eval()
    fill_state_by_name(model)
    assert [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()] == spec["param_names"]
    with torch.no_grad():
        torch.testing.assert_close(model(given["pixels"]), given["probability"], atol=1e-5, rtol=1e-4)


def test_pixels_beyond_the_range_are_clipped() -> None:
    model = RewardModel((4, 8)).eval()
    pixels = torch.randn(3, 3, 32, 32) * 2
    assert pixels.abs().max() > 1
    with torch.no_grad():
        assert torch.equal(model(pixels), model(pixels.clamp(-1, 1)))


def test_widths_are_told_by_the_parameters() -> None:
    for widths in ((64, 128, 256, 512), (4, 8), (6,)):
        assert widths_of(RewardModel(widths).state_dict()) == widths
    assert widths_of({"fc.weight": torch.zeros(3)}) == ()
