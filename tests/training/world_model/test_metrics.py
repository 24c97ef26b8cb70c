"""Numbers that are known otherwise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from siirl.training.world_model.metrics import auc, f1, psnr, squared_error, ssim


def pictures(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error() -> None:
    real = pictures() * 0.5
    errors = squared_error(torch.stack([real[0] + 0.1, real[1]]), real)
    assert errors.tolist() == pytest.approx([0.01, 0], abs=1e-6)
    assert psnr(errors[:1]) == pytest.approx(20, abs=1e-3)
    assert psnr(errors) == pytest.approx(20 + 3.0103, abs=1e-3)
    assert psnr(errors[1:]) == 100


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    real = torch.linspace(0, 1, 32).expand(2, 3, 32, 32)
    noisy = [(real + scale * (pictures() - 0.5)).clamp(0, 1) for scale in (0, 0.2, 0.6)]
    values = [float(ssim(one, real).mean()) for one in noisy]
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values[0] > values[1] > values[2] > 0


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    dark, bright = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(ssim(dark, bright)) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=4, max_size=30))
def test_f1_and_auc_are_those_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, true = np.array([score / 5 for score, _ in rows]), np.array([label for _, label in rows])
    assert f1(scores >= 0.5, true) == pytest.approx(f1_score(true, scores >= 0.5, zero_division=0))
    if 0 < true.sum() < len(true):
        assert auc(scores, true) == pytest.approx(roc_auc_score(true, scores))
    else:
        assert np.isnan(auc(scores, true))
