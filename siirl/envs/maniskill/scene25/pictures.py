"""What the camera sees: robot and objects as rendered, a photograph of a table behind them, and the vision variants' textures."""

from pathlib import Path

import cv2
import torch
from torch.nn.functional import interpolate

from siirl.envs.maniskill.scene25.variants import Texture

CAMERA = "3rd_view_camera"
SIZE = (480, 640)
"""Height and width that the camera has and the photographs fit; pictures are made smaller afterwards."""


def read_picture(file: Path, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A picture uint8 [H, W, 3], stretched to a size bilinearly, as the benchmark does it.

    Raises:
        ValueError: the file is not a picture.
    """
    content = cv2.imread(str(file))
    if content is None:
        raise ValueError(f"{file} is not a picture that OpenCV reads")
    return torch.from_numpy(cv2.resize(cv2.cvtColor(content, cv2.COLOR_BGR2RGB), (size[1], size[0])))


def texture_size(texture: Texture) -> tuple[int, int]:
    """Size that a texture is read in: twice the picture's where a window of it is laid over the whole picture."""
    return (2 * SIZE[0], 2 * SIZE[1]) if texture.whole else SIZE


def with_background(rgb: torch.Tensor, foreground: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Rendered pixels where ``foreground`` bool [B, H, W], those of ``background`` elsewhere; all others uint8 [B, H, W, 3]."""
    return torch.where(foreground[..., None], rgb, background)


def blend(
    picture: torch.Tensor, foreground: torch.Tensor, image: torch.Tensor, texture: Texture, mix: float
) -> torch.Tensor:
    """Lay a texture over one picture.

    Over everything it is a window of the texture, that begins at the middle of the foreground's bounding box; otherwise it is
    stretched to that box and only the foreground shows it.

    Args:
        picture: uint8 [H, W, 3].
        foreground: bool [H, W].
        image: the texture, uint8 [H', W', 3], see `texture_size`.
        texture: how.
        mix: weight of this texture, times its opacity.

    Returns:
        uint8 [H, W, 3].
    """
    ys, xs = foreground.nonzero(as_tuple=True)
    if len(ys) == 0:
        return picture
    height, width = foreground.shape
    top, bottom, left, right = (int(v) for v in (ys.min(), ys.max(), xs.min(), xs.max()))
    opacity = texture.opacity * mix
    if texture.whole:
        y, x = max(1, (top + bottom) // 2), max(1, (left + right) // 2)
        return (picture * (1 - opacity) + image[y : y + height, x : x + width] * opacity).to(torch.uint8)
    box = (slice(top, bottom + 1), slice(left, right + 1))
    size = (bottom + 1 - top, right + 1 - left)
    channels = image.permute(2, 0, 1)[None].float()
    fitted = interpolate(channels, size=size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    blended = picture[box] * (1 - opacity) + fitted * opacity
    result = picture.clone()
    result[box] = torch.where(foreground[box][..., None], blended.clamp(0, 255).to(torch.uint8), picture[box])
    return result


def resized(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pictures uint8 [B, H, W, 3] in another size, antialiased (bicubic) like the pictures that OpenVLA learnt from."""
    if tuple(pictures.shape[1:3]) == size:
        return pictures
    channels = pictures.permute(0, 3, 1, 2).float()
    smaller = interpolate(channels, size=size, mode="bicubic", antialias=True, align_corners=False)
    return smaller.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
