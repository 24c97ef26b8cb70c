"""The transformer: golden vectors of the published code, the condition frames' cache, and what is refused."""

import pytest
import torch
from torch import Tensor

from siirl.envs.world_model.blocks import attend
from siirl.envs.world_model.stdit3 import STDiT3
from tests.envs.world_model.parts import TRANSFORMER, fill_by_name, golden, small_parts

KEPT = 4


@pytest.fixture(scope="module")
def published() -> tuple[STDiT3, dict[str, Tensor], list]:
    """The golden network, its vectors, and names and shapes of its state."""
    spec, vectors = golden("stdit3_dev")
    model = STDiT3(spec["config"]).eval()
    fill_by_name(model)
    return model, vectors, spec["param_names"]


def test_names_and_shapes_are_the_published_ones(published: tuple) -> None:
    model, _, names = published
    assert [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()] == names


def test_equals_the_published_network(published: tuple) -> None:
    model, given, _ = published
    inputs = (given[name] for name in ("latents", "timesteps", "actions", "x_mask", "height", "height"))
    with torch.no_grad():
        found = model(*inputs)
    assert found.dtype == torch.float32
    assert (found - given["output"]).abs().max() < 1e-5 * given["output"].abs().max()


def test_condition_frames_once_equal_the_published_network(published: tuple) -> None:
    model, given, _ = published
    assert given["x_mask"].tolist() == [[0] * KEPT + [1] * 8] * 2
    size = given["height"], given["height"]
    with torch.no_grad():
        past = model.encode_condition(given["latents"][:, :, :KEPT], *size)
        found = model.denoise(given["latents"][:, :, KEPT:], given["timesteps"], given["actions"], past, *size)
    expected = given["output"][:, :, KEPT:]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("config", "kept", "shape"),
    [
        ({}, 4, (2, 4, 12, 8, 8)),
        ({"pad_action_num": 1}, 1, (1, 4, 6, 6, 10)),
        ({"pad_action_num": 4}, 2, (2, 4, 7, 5, 7)),
        ({"pred_sigma": False, "qk_norm": False, "mlp_ratio": 2.5}, 4, (1, 4, 5, 4, 4)),
        ({"patch_size": [1, 1, 1], "in_channels": 3, "action_dim": 2}, 4, (3, 3, 9, 3, 2)),
    ],
)
def test_condition_frames_once_equal_the_whole_forward(config: dict, kept: int, shape: tuple[int, ...]) -> None:
    model = STDiT3(TRANSFORMER | config).eval()
    fill_by_name(model)
    latents, timesteps, actions = inputs(model, shape)
    mask = (torch.arange(shape[2]) >= kept).expand(shape[0], -1)
    size = torch.full((shape[0],), 96), torch.full((shape[0],), 64)
    with torch.no_grad():
        whole = model(latents, timesteps, actions, mask, *size)
        past = model.encode_condition(latents[:, :, :kept], *size)
        found = model.denoise(latents[:, :, kept:], timesteps, actions, past, *size)
    assert whole.shape == (shape[0], model.config.out_channels, *shape[2:])
    torch.testing.assert_close(found, whole[:, :, kept:], atol=1e-5, rtol=1e-5)


def test_leading_condition_frames_depend_on_nothing_that_follows() -> None:
    model, _, _ = small_parts()
    latents, timesteps, actions = inputs(model, (1, 4, 8, 4, 4))
    mask = (torch.arange(8) >= KEPT)[None]
    size = torch.full((1,), 64)
    with torch.no_grad():
        first = model(latents, timesteps, actions, mask, size, size)
        latents[:, :, KEPT:] += 1
        second = model(latents, timesteps / 2, -actions, mask, size, size)
        for one, other in zip(
            *(model.encode_condition(z, size, size) for z in (latents, latents[:, :, :KEPT])), strict=True
        ):
            torch.testing.assert_close(one[0][:, :, :KEPT], other[0])
    assert (first - second)[:, :, KEPT:].abs().amax(dim=(0, 1, 3, 4)).min() > 1e-3


def test_patches_in_time_count_as_frames() -> None:
    """Twelve latent frames are six tokens; their padding is cut off again."""
    model = STDiT3(TRANSFORMER | {"patch_size": [2, 2, 2]}).eval()
    latents = torch.randn(1, 4, 11, 5, 6)
    mask, size = torch.ones(1, 6), torch.full((1,), 64)
    with torch.no_grad():
        assert model(latents, torch.tensor([500.0]), torch.zeros(1, 2, 7), mask, size, size).shape == (1, 8, 11, 5, 6)


def test_bfloat16_stays_near() -> None:
    model, _, _ = small_parts()
    latents, _, actions = inputs(model, (2, 4, 12, 8, 8))
    given = latents, torch.tensor([900.0, 100.0]), actions  # bfloat16 holds the timesteps of ten steps exactly
    mask, size = (torch.arange(12) >= KEPT).expand(2, -1), torch.full((2,), 256)
    with torch.no_grad():
        exact = model(*given, mask, size, size)
        half = model.to(torch.bfloat16)(*given, mask, size, size)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).norm() / exact.norm() < 0.03


def test_wrong_numbers_of_actions_and_mask_entries_are_refused() -> None:
    model, _, _ = small_parts()
    latents, timesteps, actions = inputs(model, (1, 4, 12, 8, 8))
    size = torch.full((1,), 64)
    with pytest.raises(ValueError, match=r"12 frames need 8 actions \(pad_action_num is 4\)"):
        model(latents, timesteps, actions[:, :7], torch.ones(1, 12), size, size)
    with pytest.raises(ValueError, match=r"not 8 actions and a mask of \(1, 8\)"):
        model(latents, timesteps, actions, torch.ones(1, 8), size, size)


@pytest.mark.parametrize("sizes", [{"hidden_size": 34}, {"num_heads": 5}, {"hidden_size": 36, "num_heads": 12}])
def test_sizes_that_do_not_go_together_are_refused(sizes: dict) -> None:
    with pytest.raises(ValueError, match="the width must be a multiple of 4 and of twice the number of heads"):
        STDiT3(TRANSFORMER | sizes)


def inputs(model: STDiT3, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of this shape, timesteps and actions."""
    generator = torch.Generator().manual_seed(1)
    count = shape[2] - model.config.pad_action_num
    return (
        torch.randn(shape, generator=generator),
        torch.rand(shape[0], generator=generator) * 1000,
        torch.randn(shape[0], count, model.config.action_dim, generator=generator),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_that_of_float32_in_any_dtype(dtype: torch.dtype) -> None:
    """Also under autocast, which would compute it in bf16."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3))
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = attend(q, k, v, seen)
    scores = (q.double() @ k.double().transpose(-1, -2) / 8**0.5).masked_fill(~seen, -torch.inf)
    wanted = scores.softmax(-1) @ v.double()
    assert found.dtype == dtype
    torch.testing.assert_close(found, wanted.to(dtype), rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.float().sum(), q)
    assert gradient.dtype == dtype
