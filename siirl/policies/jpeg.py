"""What a frame looks like after TensorFlow encoded it as JPEG (quality 95, 4:2:0) and decoded it again.

TensorFlow decodes with libjpeg's *fast integer* inverse DCT, whose truncations darken an image by about one level.
Pillow offers the accurate one only, so the lossy stages are computed here; entropy coding loses nothing and is left
out. Integer arithmetic follows libjpeg (jfdctint.c, jidctfst.c, jdsample.c, jdcolor.c).
"""

from functools import lru_cache

import numpy as np

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
QUALITY_SCALE = 10  # libjpeg's percentage for quality 95: 200 − 2 · 95


def jpeg_round_trip(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] → uint8 [H, W, 3]."""
    height, width, _ = frame.shape
    if height % 16 or width % 16:
        frame = np.pad(frame, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
    ycc = _to_ycc(frame)
    luma = _through_blocks(ycc[:1], LUMINANCE)
    chroma = _upsample(_through_blocks(_downsample(ycc[1:]), CHROMINANCE))
    return _to_rgb(luma[0], *chroma)[:height, :width]


def _to_ycc(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] → Y, Cb, Cr, int32 [3, H, W], in 16-bit fixed point."""
    red, green, blue = np.moveaxis(frame, -1, 0).astype(np.int32)
    half, centre = 1 << 15, 128 << 16
    luma = 19595 * red + 38470 * green + 7471 * blue + half
    chroma_blue = -11059 * red - 21709 * green + 32768 * blue + (centre + half - 1)
    chroma_red = 32768 * red - 27439 * green - 5329 * blue + (centre + half - 1)
    return np.stack([luma, chroma_blue, chroma_red]) >> 16


def _downsample(planes: np.ndarray) -> np.ndarray:
    """Mean of 2 × 2 pixels, rounded down and up in turn. [P, H, W] → [P, H/2, W/2]"""
    pairs = planes[:, 0::2] + planes[:, 1::2]
    bias = np.arange(pairs.shape[2] // 2, dtype=np.int32) % 2 + 1
    return (pairs[..., 0::2] + pairs[..., 1::2] + bias) >> 2


def _through_blocks(planes: np.ndarray, table: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """DCT of 8 × 8 blocks, quantisation and back. [P, H, W] → [P, H, W]"""
    count, height, width = planes.shape
    steps, factors = _quantisation(table)
    split = planes.reshape(count, height // 8, 8, width // 8, 8).transpose(2, 4, 0, 1, 3)
    dct = _forward_dct(split.reshape(8, 8, -1) - 128).astype(np.float32)
    coefficients = np.trunc((dct + np.copysign(steps / 2, dct)) / steps).astype(np.int32)
    pixels = _fast_inverse_dct(coefficients * factors)
    return pixels.reshape(split.shape).transpose(2, 3, 0, 4, 1).reshape(planes.shape)


@lru_cache
def _quantisation(table: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Quantisation steps of the scaled DCT, float32 [8, 8, 1], and the int32 [8, 8, 1] factors with which the fast
    inverse DCT expects coefficients: steps times the scales of Arai, Agui and Nakajima, with 2 fractional bits."""
    steps = np.clip((np.array(table) * QUALITY_SCALE + 50) // 100, 1, 255)
    scale = np.where(np.arange(8) == 0, 1.0, np.sqrt(2) * np.cos(np.arange(8) * np.pi / 16))
    aan = np.rint(np.outer(scale, scale) * 2**14).astype(np.int64)
    factors = (steps * aan + (1 << 11)) >> 12
    return (8 * steps[..., None]).astype(np.float32), factors[..., None].astype(np.int32)


def _forward_dct(blocks: np.ndarray) -> np.ndarray:
    """Pixels int32 [8, 8, N] → coefficients int32 [8, 8, N], times 8: rows with 2 fractional bits, then columns without."""
    rows = _forward_pass(blocks.transpose(1, 0, 2), up=2, down=11).transpose(1, 0, 2)
    return _forward_pass(rows, up=-2, down=15)


def _forward_pass(x: np.ndarray, up: int, down: int) -> np.ndarray:
    """One pass over the first axis (Loeffler, Ligtenberg and Moschytz), constants with 13 fractional bits."""
    (s0, s1, s2, s3), (d7, d6, d5, d4) = x[:4] + x[:3:-1], x[:4] - x[:3:-1]
    e0, e3, e1, e2 = s0 + s3, s0 - s3, s1 + s2, s1 - s2
    z1 = (e2 + e3) * 4433
    even = (z1 + e3 * 6270, z1 - e2 * 15137)
    z5 = (d4 + d5 + d6 + d7) * 9633
    z1, z2 = (d4 + d7) * -7373, (d5 + d6) * -20995
    z3, z4 = (d4 + d6) * -16069 + z5, (d5 + d7) * -3196 + z5
    odd = (d7 * 12299 + z1 + z4, d6 * 25172 + z2 + z3, d5 * 16819 + z2 + z4, d4 * 2446 + z1 + z3)
    half = 1 << (down - 1)
    whole = [total << up if up > 0 else (total + 2) >> -up for total in (e0 + e1, e0 - e1)]
    low, high = ((term + half) >> down for term in even)
    first, third, fifth, seventh = ((term + half) >> down for term in odd)
    return np.stack([whole[0], first, low, third, whole[1], fifth, high, seventh])


def _fast_inverse_dct(coefficients: np.ndarray) -> np.ndarray:
    """Scaled coefficients int32 [8, 8, N] → pixels int32 [8, 8, N] in [0, 255]."""
    columns = _butterflies(coefficients)
    rows = _butterflies(columns.transpose(1, 0, 2))
    return np.clip((rows.transpose(1, 0, 2) >> 5) + 128, 0, 255)


def _butterflies(x: np.ndarray) -> np.ndarray:
    """One pass over the first axis. Constants have 8 fractional bits; shifts truncate: here accuracy is lost."""
    even0, even1 = x[0] + x[4], x[0] - x[4]
    even3 = x[2] + x[6]
    even2 = ((x[2] - x[6]) * 362 >> 8) - even3
    a, d, b, c = even0 + even3, even0 - even3, even1 + even2, even1 - even2
    z13, z10, z11, z12 = x[5] + x[3], x[5] - x[3], x[1] + x[7], x[1] - x[7]
    odd7 = z11 + z13
    z5 = (z10 + z12) * 473 >> 8
    odd6 = (z10 * -669 >> 8) + z5 - odd7
    odd5 = ((z11 - z13) * 362 >> 8) - odd6
    odd4 = (z12 * 277 >> 8) - z5 + odd5
    return np.stack([a + odd7, b + odd6, c + odd5, d - odd4, d + odd4, c - odd5, b - odd6, a - odd7])


def _upsample(planes: np.ndarray) -> np.ndarray:
    """libjpeg's fancy upsampling: a new pixel is 3/4 its nearest old one and 1/4 the next. [P, H, W] → [P, 2H, 2W]"""
    count, height, width = planes.shape
    rows = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    centre = 3 * rows[:, 1:-1]
    tall = np.stack([centre + rows[:, :-2], centre + rows[:, 2:]], axis=2).reshape(count, 2 * height, width + 2)
    centre = 3 * tall[..., 1:-1]
    wide = np.stack([centre + tall[..., :-2] + 8, centre + tall[..., 2:] + 7], axis=-1) >> 4
    return wide.reshape(count, 2 * height, 2 * width)


def _to_rgb(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    """Y, Cb, Cr int32 [H, W] → uint8 [H, W, 3]."""
    blue, red, half = blue - 128, red - 128, 1 << 15
    channels = (
        luma + ((91881 * red + half) >> 16),
        luma + ((-22554 * blue - 46802 * red + half) >> 16),
        luma + ((116130 * blue + half) >> 16),
    )
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
