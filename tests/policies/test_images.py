"""The image pipeline against TensorFlow's output, and libjpeg's arithmetic against Pillow's."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siirl.policies import jpeg
from siirl.policies.images import openvla_image

GOLDEN = Path(__file__).parents[1] / "golden" / "openvla_image_pipeline_dev.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("stage", "center_crop"), [("resized", False), ("cropped", True)])
@pytest.mark.parametrize("frame", [0, 1])
def test_pipeline_equals_tensorflow(golden: dict[str, np.ndarray], frame: int, stage: str, center_crop: bool) -> None:
    ours = openvla_image(golden[f"raw{frame}"], 224, center_crop)
    difference = np.abs(ours.astype(int) - golden[f"{stage}{frame}"])
    assert (
        difference.max() <= 1
    )  # measured: one level in fewer than 8 of 100,000 values, where sums of floats round apart
    assert difference.mean() < 1e-4


def test_chroma_and_colours_equal_libjpeg_but_for_the_inverse_dct(
    golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the accurate inverse DCT in place of the fast one, the round trip is Pillow's."""
    frame = golden["raw0"]
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling="4:2:0")
    frequency = np.arange(8)[:, None]
    basis = np.where(frequency == 0, np.sqrt(1 / 8), 0.5) * np.cos((2 * np.arange(8) + 1) * frequency * np.pi / 16)
    quantisation = jpeg._quantisation

    def exact_factors(table: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
        steps, _ = quantisation(table)
        return steps, steps.astype(np.float64) / 8

    def accurate(coefficients: np.ndarray) -> np.ndarray:
        pixels = np.einsum("ur,uvn,vc->rcn", basis, coefficients, basis)
        return np.clip(np.rint(pixels) + 128, 0, 255).astype(np.int32)

    monkeypatch.setattr(jpeg, "_quantisation", exact_factors)
    monkeypatch.setattr(jpeg, "_fast_inverse_dct", accurate)
    difference = np.abs(jpeg.jpeg_round_trip(frame).astype(int) - np.asarray(Image.open(buffer)))
    assert np.mean(difference > 0) < 0.03  # libjpeg's accurate one still rounds between its two passes
    assert difference.max() <= 3


@pytest.mark.parametrize("shape", [(128, 128), (90, 123), (16, 16)])
def test_any_shape_survives(shape: tuple[int, int]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    frame = np.stack([y + 20, x + 20, (x + y) // 2 + 20], axis=-1).astype(np.uint8)
    round_trip = jpeg.jpeg_round_trip(frame)
    assert round_trip.shape == frame.shape
    assert round_trip.dtype == np.uint8
    assert np.abs(round_trip.astype(int) - frame).mean() < 2.5
    assert openvla_image(frame, 32).shape == (32, 32, 3)
