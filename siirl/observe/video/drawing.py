"""A trajectory's frames as a video shows them: views side by side, and what is known of each below it."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from siirl.data.trajectory import Trajectory

MARGIN, LINE, FONT_SIZE = 4, 16, 13
"""Of the text, pixels."""
MIN_WIDTH = 256
"""Narrower frames are enlarged by a whole factor where text goes with them, pixels."""


def frames(trajectory: Trajectory, info: bool) -> Iterator[np.ndarray]:
    """The C + 1 frames, uint8 [H, W, 3] with even H and W, one observation each.

    Args:
        trajectory: an episode with at least one image.
        info: whether text stands below.
    """
    _, views, _, width, _ = trajectory.images.shape
    factor = -(-MIN_WIDTH // (views * width)) if info else 1
    caption = Caption(trajectory, views * width * factor) if info else None
    for index, image in enumerate(trajectory.images):
        picture = np.concatenate(list(image), axis=1)
        if factor > 1:
            picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        if caption is not None:
            picture = np.concatenate([picture, caption.at(index)])
        yield _even(picture)


def _even(picture: np.ndarray) -> np.ndarray:
    """A black row or column more where there is an odd number, which yuv420p cannot hold."""
    height, width, _ = picture.shape
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))
    return picture


class Caption:
    """The text below an episode's frames: its instruction, and a line that changes.

    Args:
        trajectory: the episode.
        width: of the frames, pixels.
    """

    def __init__(self, trajectory: Trajectory, width: int) -> None:
        self._trajectory, self._width = trajectory, width
        self._font = ImageFont.load_default(FONT_SIZE)
        self._steps = np.concatenate([[0], np.cumsum(trajectory.executed, dtype=np.int64)])
        self._rewards = np.concatenate([[0.0], np.cumsum(trajectory.rewards.sum(axis=-1, dtype=np.float64))])
        instruction = trajectory.summary.spec.instruction
        lines = _wrapped(instruction, self._font, width)
        self._empty = Image.new("RGB", (width, text_height(instruction, width)))
        self._last_line = MARGIN + LINE * len(lines)
        draw = ImageDraw.Draw(self._empty)
        for number, line in enumerate(lines):
            draw.text((MARGIN, MARGIN + LINE * number), line, font=self._font)

    def at(self, index: int) -> np.ndarray:
        """The picture of the text below frame ``index``, uint8 [h, width, 3]."""
        picture = self._empty.copy()
        ImageDraw.Draw(picture).text((MARGIN, self._last_line), self._line(index), font=self._font, fill="#9fd0ff")
        return np.asarray(picture)

    def _line(self, index: int) -> str:
        """Step, reward so far, value; on the last frame how it ended in the place of the value."""
        trajectory, summary = self._trajectory, self._trajectory.summary
        parts = [f"step {self._steps[index]}/{summary.spec.max_steps}", f"reward {self._rewards[index]:.2f}"]
        if index == len(trajectory.images) - 1:
            parts.append(summary.drop_reason or ("success" if summary.success else "failure"))
        elif trajectory.values is not None and index < len(trajectory.values):
            parts.append(
                f"value {trajectory.values[index, 0]:.2f}"
            )  # with one for each action, the first is the observation's
        return "   ".join(parts)


def text_height(instruction: str, width: int) -> int:
    """Of the text below frames of a width, pixels."""
    return 2 * MARGIN + LINE * (len(_wrapped(instruction, ImageFont.load_default(FONT_SIZE), width)) + 1)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 2 * MARGIN or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
