"""Smaller textures: LIBERO's are up to 4096 pixels wide and hold most of a simulator's memory."""

import hashlib
import io
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from siirl.envs.libero.package import cache_folder, write_atomically


def use_small_textures(model: ElementTree.Element, max_size: int) -> None:
    """Point every PNG texture of a MuJoCo model at a copy whose sides are at most ``max_size`` pixels."""
    for texture in model.iter("texture"):
        file = texture.get("file", "")
        if file.lower().endswith(".png"):
            texture.set("file", str(shrink_texture(Path(file), max_size)))


def shrink_texture(file: Path, max_size: int) -> Path:
    """A copy of a texture, resized to at most ``max_size`` pixels a side, from this user's cache; small ones stay as they are.

    Copies are named by the original's content and made atomically, so that processes may share the cache.
    """
    content = file.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        scale = max_size / max(image.size)
        if scale >= 1:
            return file
        small = cache_folder() / "textures" / f"{hashlib.sha256(content).hexdigest()[:32]}_{max_size}.png"
        if not small.exists():
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            encoded = io.BytesIO()
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(encoded, "PNG")
            write_atomically(small, encoded.getvalue())
    return small
