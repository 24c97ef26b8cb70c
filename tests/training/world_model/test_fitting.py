"""Fitting a network, and going on after an interrupt."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from siirl.training.world_model.fitting import Recipe, fit
from siirl.training.world_model.unfinished import Unfinished

STEPS = 12


def fitted(
    folder: Path, steps: int, interrupt_at: int | None = None, save_seconds: float = 0.0, lr: float = 1e-1
) -> nn.Module:
    """A network with running statistics that learns to double numbers; weights and batches are drawn."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    calls = 0

    def loss() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == interrupt_at:
            raise KeyboardInterrupt
        numbers = torch.randn(4, 1, generator=generator)
        return nn.functional.mse_loss(model(numbers), 2 * numbers)

    recipe = Recipe(steps, 4, lr, save_seconds=save_seconds)
    fit("doubler", model, recipe, loss, generator, Unfinished(folder))
    return model


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("interrupted_at", [2, 7, STEPS])
def test_an_interrupted_fitting_goes_on_as_if_it_had_not_been(tmp_path: Path, interrupted_at: int) -> None:
    whole = fitted(tmp_path / "whole", STEPS)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", STEPS, interrupted_at)
    assert len(Unfinished(tmp_path / "cut").load("doubler")["losses"]) == interrupted_at - 1
    again = fitted(tmp_path / "cut", STEPS)
    assert_equal(whole, again)


def test_what_is_done_is_read_and_not_done_again(tmp_path: Path) -> None:
    whole = fitted(tmp_path, STEPS, save_seconds=1e9)
    again = fitted(tmp_path, STEPS, interrupt_at=1)
    assert_equal(whole, again)


def test_an_interrupt_before_the_first_save_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, STEPS, interrupt_at=4, save_seconds=1e9)
    assert Unfinished(tmp_path).load("doubler") is None
    assert_equal(fitted(tmp_path, STEPS), fitted(tmp_path / "whole", STEPS))


def test_what_is_half_done_by_another_recipe_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, STEPS, interrupt_at=4)
    assert_equal(fitted(tmp_path, STEPS, lr=1e-2), fitted(tmp_path / "whole", STEPS, lr=1e-2))


def test_what_is_done_by_another_recipe_is_refused(tmp_path: Path) -> None:
    fitted(tmp_path, STEPS)
    with pytest.raises(ValueError, match=r"the doubler in .* is done, with other options \(lr 0\.1 → 0\.01\)"):
        fitted(tmp_path, STEPS, lr=1e-2)


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    model, factor = nn.Linear(1, 1), [1.0, 1.0, float("inf")]

    def loss() -> Tensor:
        value = model(torch.ones(1, 1)).sum()
        value.register_hook(lambda gradient: gradient * factor.pop(0))
        return value

    recipe = Recipe(3, 1, 1e-1, save_seconds=0.0)
    with pytest.raises(FloatingPointError, match="not finite in step 3 of the model; lower its learning rate"):
        fit("model", model, recipe, loss, torch.Generator(), Unfinished(tmp_path))
    assert model.weight.isfinite().all()
    assert len(Unfinished(tmp_path).load("model")["losses"]) == 2


@pytest.mark.parametrize(("dtype", "computed"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_losses_are_computed_in_the_dtype_and_weights_kept_in_float32(
    tmp_path: Path, dtype: str, computed: torch.dtype
) -> None:
    model, found = nn.Linear(1, 1), []

    def loss() -> Tensor:
        output = model(torch.ones(2, 1))
        found.append(output.dtype)
        return output.float().square().mean()

    fit("model", model, Recipe(1, 2, 1e-1, dtype), loss, torch.Generator(), Unfinished(tmp_path))
    assert found == [computed]
    assert model.weight.dtype == torch.float32


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(100, 1, 2.0)
    rates = [recipe.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(2.0 / 5)
    assert max(rates) == rates[4] == pytest.approx(2.0, rel=0.01)
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[-1] < 0.001


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path)
    unfinished.begin({"--seed": 0, "--widths": [8, 16]})
    assert unfinished.exists
    Unfinished(tmp_path).begin({"--seed": 0, "--widths": [8, 16]})
    with pytest.raises(ValueError, match=r"--widths was \[8, 16\] and is \[8\]\. Give what it was"):
        Unfinished(tmp_path).begin({"--seed": 0, "--widths": [8]})
    unfinished.remove()
    assert not unfinished.exists
