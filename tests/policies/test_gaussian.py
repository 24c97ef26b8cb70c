"""Continuous actions: densities beside PyTorch's own in float64, draws by their seeds alone, a spread within its bounds."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributions import Normal

from siirl.config.action_noise import FILE, LOG_STD, action_noise_shapes
from siirl.config.schema import ModelConfig
from siirl.config.value_head import policy_shapes
from siirl.policies.base import Sampling
from siirl.policies.gaussian import (
    ActionNoise,
    GaussianSettings,
    add_log_std,
    bounded,
    check_log_std,
    choose,
    draw,
    gaussian_evaluation,
    save_log_std,
)

SETTINGS = GaussianSettings(initial_std=0.1, min_std=0.02, max_std=0.5, per_dimension=True)
SHARED = GaussianSettings(initial_std=0.1, min_std=0.02, max_std=0.5, per_dimension=False)
T, D = 4, 3
STDS = st.lists(st.floats(0.02, 0.5), min_size=D, max_size=D) | st.lists(st.floats(0.02, 0.5), min_size=1, max_size=1)
TEMPERATURES = st.sampled_from((0.25, 1.0, 1.6, 4.0))


def means(rows: int, seed: int = 0) -> Tensor:
    """As a network regresses them, some of them beyond [−1, 1]."""
    return torch.randn(rows, T, D, generator=torch.Generator().manual_seed(seed))


@given(std=STDS, temperature=TEMPERATURES, rows=st.integers(1, 3), seed=st.integers(0, 99))
def test_densities_and_entropies_are_those_of_the_tempered_normal(
    std: list[float], temperature: float, rows: int, seed: int
) -> None:
    mean, spread = means(rows, seed), torch.tensor(std)
    sampled = draw(mean, spread, range(rows), temperature)
    found = gaussian_evaluation(mean, spread, sampled, temperature)
    wide = spread.double() * math.sqrt(temperature)
    reference = Normal(mean.double(), wide.expand(T, D).expand_as(mean))
    for name, want in (
        ("log_probs", reference.log_prob(sampled.double().view_as(mean))),
        ("entropy", reference.entropy()),
    ):
        got = getattr(found, name)
        assert (got.shape, got.dtype) == ((rows, T * D), torch.float32)
        torch.testing.assert_close(got.double(), want.flatten(1), rtol=1e-5, atol=1e-4, msg=name)


@given(std=STDS, temperature=TEMPERATURES)
def test_a_temperature_tempers_the_density(std: list[float], temperature: float) -> None:
    """Ratios of densities are those at temperature 1, to the power 1 / T."""
    mean, spread = means(2), torch.tensor(std, dtype=torch.float64)
    one, two = means(2, seed=1).flatten(1), means(2, seed=2).flatten(1)

    def log_ratio(at: float) -> Tensor:
        return (
            gaussian_evaluation(mean, spread, one, at).log_probs - gaussian_evaluation(mean, spread, two, at).log_probs
        )

    torch.testing.assert_close(log_ratio(temperature), log_ratio(1.0) / temperature, rtol=1e-4, atol=1e-3)


def test_draws_have_the_mean_and_the_spread() -> None:
    rows, std, temperature = 2000, torch.tensor([0.05, 0.1, 0.4]), 1.6
    mean = means(1).expand(rows, -1, -1)
    drawn = draw(mean, std, range(rows), temperature).view(rows, T, D)
    standard = (drawn - mean) / (std * math.sqrt(temperature))
    assert standard.mean(0).abs().max() < 5 / math.sqrt(rows)
    assert (standard.std(0) - 1).abs().max() < 5 / math.sqrt(2 * rows)
    flat = standard.flatten(1).T
    off = torch.corrcoef(flat) - torch.eye(len(flat))
    assert off.abs().max() < 6 / math.sqrt(rows), "elements are independent"


@given(
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=5, unique=True),
    order=st.randoms(use_true_random=False),
)
def test_a_draw_depends_on_its_seed_and_its_own_distribution_alone(seeds: list[int], order: Any) -> None:
    mean, std = means(len(seeds)), torch.tensor([0.1, 0.2, 0.3])
    together = draw(mean, std, seeds, 1.3)
    assert len({tuple(row.tolist()) for row in (together - mean.flatten(1))}) == len(seeds)
    rows = list(range(len(seeds)))
    order.shuffle(rows)
    assert torch.equal(draw(mean[rows], std, [seeds[row] for row in rows], 1.3), together[rows])
    assert torch.equal(draw(mean[:1], std, seeds[:1], 1.3), together[:1])


def test_without_sampling_the_mean_is_taken() -> None:
    mean, std = means(2), torch.tensor([0.1])
    greedy = choose(mean.bfloat16(), std, Sampling(False, 1.6))
    assert torch.equal(greedy, mean.bfloat16().float().flatten(1))
    drawn = choose(mean, std, Sampling(True, 1.6, [1, 2]))
    assert torch.equal(drawn, draw(mean, std, [1, 2], 1.6))
    assert (gaussian_evaluation(mean, std, choose(mean, std, Sampling(False, 1.6)), 1.6).log_probs > 0).all(), (
        "a density"
    )


def test_gradients_reach_mean_and_spread() -> None:
    mean, noise = means(2).requires_grad_(), ActionNoise(SETTINGS, D)
    found = gaussian_evaluation(mean, noise(), draw(mean.detach(), noise().detach(), [1, 2], 1.0), 1.0)
    found.log_probs.sum().backward()
    assert mean.grad is not None
    assert (mean.grad != 0).all()
    assert noise.log_std.grad is not None
    assert noise.log_std.grad.shape == (D,)
    before = noise.log_std.grad.clone()
    gaussian_evaluation(mean, noise(), mean.flatten(1), 1.0).entropy.sum().backward()
    torch.testing.assert_close(noise.log_std.grad - before, torch.full((D,), float(2 * T)))  # d entropy / d log σ = 1


def test_what_is_not_finite_shows_in_the_log_probs_of_its_row_alone() -> None:
    mean = means(2)
    mean[1, 2, 0] = torch.nan
    std = torch.tensor([0.1])
    log_probs = gaussian_evaluation(mean, std, draw(mean, std, [1, 2], 1.0), 1.0).log_probs
    assert log_probs[0].isfinite().all()
    assert not log_probs[1].isfinite().all()


LOW, HIGH = -1.0, 1.0


@given(x=st.floats(-3, 3) | st.sampled_from((LOW, HIGH)), slope=st.floats(-2, 2))
def test_beyond_a_bound_the_gradient_leads_back_or_is_0(x: float, slope: float) -> None:
    tensor = torch.tensor([x], requires_grad=True)
    value = bounded(tensor, LOW, HIGH)
    assert value.item() == pytest.approx(min(max(x, LOW), HIGH))
    (slope * value).sum().backward()
    assert tensor.grad is not None
    leads_out = (x <= LOW and slope > 0) or (x >= HIGH and slope < 0)  # the optimizer steps against it
    assert tensor.grad.item() == pytest.approx(0.0 if leads_out else slope)


def test_a_spread_that_was_carried_beyond_its_bounds_comes_back() -> None:
    noise = ActionNoise(SETTINGS, 1)
    with torch.no_grad():
        noise.log_std.fill_(math.log(SETTINGS.max_std) + 0.5)
    optimizer = torch.optim.SGD(noise.parameters(), lr=0.1)
    assert noise().item() == pytest.approx(SETTINGS.max_std)
    for _ in range(20):
        optimizer.zero_grad()
        noise().sum().backward()
        optimizer.step()
    assert noise().item() < SETTINGS.max_std


class Toy(nn.Module):
    """A network, as far as the spread sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)


def test_settings_follow_the_config() -> None:
    model = ModelConfig()
    model.action_noise.initial_std, model.action_noise.per_dimension = 0.3, False
    assert GaussianSettings.of(model) == GaussianSettings(0.3, 0.02, 0.5, False)


@pytest.mark.parametrize("settings", [SETTINGS, SHARED], ids=["per dimension", "shared"])
def test_the_spread_is_read_back_from_its_own_file(settings: GaussianSettings, tmp_path: Path) -> None:
    network = Toy()
    noise = add_log_std(network, settings, D, tmp_path)
    assert network.action_noise is noise
    assert noise.log_std.requires_grad
    torch.testing.assert_close(noise(), torch.full((D if settings.per_dimension else 1,), 0.1))
    with torch.no_grad():
        noise.log_std += torch.linspace(0, 1, len(noise.log_std)) + 0.1
    save_log_std(network, tmp_path)
    assert {name: [*t.shape] for name, t in load_file(tmp_path / FILE).items()} == action_noise_shapes(
        D, settings.per_dimension
    )
    again = add_log_std(Toy(), settings, D, tmp_path)
    assert torch.equal(again.log_std, noise.log_std)
    save_file(network.linear.state_dict(), tmp_path / "model.safetensors")
    assert policy_shapes(tmp_path).keys() == {"weight", "bias"}, "it is none of the policy's own parameters"
    save_log_std(Toy(), tmp_path)
    assert not (tmp_path / FILE).exists()


def test_a_narrower_bound_holds_for_what_was_learned_before(tmp_path: Path) -> None:
    network = Toy()
    add_log_std(network, SETTINGS, D)
    save_log_std(network, tmp_path)
    again = add_log_std(Toy(), GaussianSettings(0.05, 0.02, 0.06, True), D, tmp_path)
    torch.testing.assert_close(again(), torch.full((D,), 0.06))


@pytest.mark.parametrize(
    ("settings", "dims", "part"), [(SHARED, D, "per_dimension"), (SETTINGS, D + 1, rf"instead of .*{LOG_STD}.*\[4\]")]
)
def test_a_spread_of_other_dimensions_is_refused(
    settings: GaussianSettings, dims: int, part: str, tmp_path: Path
) -> None:
    network = Toy()
    add_log_std(network, SETTINGS, D)
    save_log_std(network, tmp_path)
    for ask in (lambda: check_log_std(settings, dims, tmp_path), lambda: add_log_std(Toy(), settings, dims, tmp_path)):
        with pytest.raises(ValueError, match=part):
            ask()
    check_log_std(SETTINGS, D, tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"action_noise\.safetensors is no safetensors file.*remove it"):
        add_log_std(Toy(), SETTINGS, D, tmp_path)
