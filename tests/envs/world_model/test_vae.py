"""The autoencoder: golden vectors of diffusers' AutoencoderKL, names of old files, and what is refused."""

import pytest
import torch

from siirl.envs.world_model.vae import AutoencoderKL
from tests.envs.world_model.parts import VAE, fill_state_by_name, golden


def test_equals_the_published_autoencoder() -> None:
    spec, given = golden("opensora_vae")
    model = AutoencoderKL(spec["config"]).eval()
    fill_state_by_name(model)
    assert sorted([name, list(tensor.shape)] for name, tensor in model.state_dict().items()) == spec["param_names"]
    with torch.no_grad():
        mean, log_variance = model.posterior(given["pixels"])
        torch.testing.assert_close(mean, given["mean"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(log_variance, given["log_variance"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.decode(given["latents"]), given["decoded"], atol=1e-5, rtol=1e-4)


def test_latents_are_scaled_draws_of_the_posterior() -> None:
    torch.manual_seed(0)
    model = AutoencoderKL(VAE | {"scaling_factor": 0.5})
    pixels, noise = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        mean, log_variance = model.posterior(pixels)
        torch.testing.assert_close(model.encode(pixels), mean * 0.5)
        torch.testing.assert_close(model.encode(pixels, noise), (mean + (log_variance / 2).exp() * noise) * 0.5)
        assert model.decode(model.encode(pixels)).shape == pixels.shape


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"down_block_types": ["AttnDownEncoderBlock2D"]}, "must be of DownEncoderBlock2D"),
        ({"act_fn": "gelu"}, "with act_fn silu"),
        ({"use_quant_conv": False}, "use_quant_conv"),
        ({"norm_num_groups": 3}, r"norm_num_groups=3 does not divide block_out_channels \[8, 16\]"),
    ],
)
def test_other_autoencoders_are_refused(change: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AutoencoderKL(VAE | change)
