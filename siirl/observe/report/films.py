"""Filmstrips: a few frames of an episode's video side by side, in the page itself."""

import base64
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np
from PIL import Image

from siirl.observe.report.markup import Child, Html, number, tag
from siirl.observe.report.run import Episodes, Run
from siirl.observe.video.drawing import MARGIN, text_height

FRAMES, SIDE = 8, 144
"""Of a strip: frames, and their height in pixels."""

MOST_OF_A_KIND = 6
"""Strips of successes, and of failures."""

DARK = 48
"""Of 255: the margins of a text are darker, however the video was encoded, and its letters are not."""

MOST_BYTES = 6 * 2**20
"""Of all strips of a page, as they are embedded."""


def films(run: Run, page: Path) -> Html | None:
    """Strips of failures and of successes, the newest first; None where no episode has a video.

    Args:
        run: whose videos.
        page: the file that the strips become part of: it links the videos relatively.
    """
    found = with_video(run)
    spent = 0
    columns: list[Child] = []
    for name, wanted in (("Failures", False), ("Successes", True)):
        strips = []
        for row in newest(found.where(found.success == wanted)):
            strip = filmstrip(run.folder / row["video"], row["instruction"])
            if strip is None or spent + len(strip.content) > MOST_BYTES:
                continue
            spent += len(strip.content)
            strips.append(strip_figure(row, strip, run.folder / row["video"], page))
        if strips:
            columns.append(tag("div", tag("h3", name), strips, class_="films"))
    return tag("div", columns, class_="two") if columns else None


def with_video(run: Run) -> Episodes:
    """The episodes whose video is there."""
    paths = run.episodes.column("video")
    return run.episodes.where(np.array([bool(path) and (run.folder / path).is_file() for path in paths], bool))


def newest(episodes: Episodes) -> Iterator[dict]:
    """The newest few episodes, of as many tasks as possible."""
    rows = sorted(episodes.table.to_pylist(), key=lambda row: -row["step"])
    rank: dict[tuple[str, int], int] = {}
    for row in rows:
        task = row["suite"], row["task_id"]
        rank[task] = row["rank"] = rank.get(task, -1) + 1
    yield from sorted(rows, key=lambda row: row["rank"])[:MOST_OF_A_KIND]  # the order of equals stays


@dataclass(frozen=True)
class Strip:
    """A filmstrip: a WebP file, and the width of the picture by its height."""

    content: bytes
    aspect: float


def filmstrip(video: Path, instruction: str) -> Strip | None:
    """`FRAMES` frames of a video from the first to the last, side by side, as WebP; None of a file that is no whole video. Text
    below the frames is left out: so small nobody could read it."""
    try:
        with av.open(str(video)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    except av.FFmpegError:
        return None
    if not frames:
        return None
    height = frames[0].height - text_below(frames[0], instruction)
    picked = [
        frames[i].crop((0, 0, frames[i].width, height))
        for i in np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
    ]
    width = max(1, round(picked[0].width * SIDE / picked[0].height))
    strip = Image.new("RGB", (width * FRAMES, SIDE))
    for i, frame in enumerate(picked):
        strip.paste(frame.resize((width, SIDE), Image.Resampling.LANCZOS), (i * width, 0))
    content = io.BytesIO()
    strip.save(content, "WEBP", quality=72, method=4)
    return Strip(content.getvalue(), strip.width / strip.height)


def text_below(frame: Image.Image, instruction: str) -> int:
    """Height of the text that `siirl.observe.video.drawing` has put below a frame, pixels: 0 where there is none, for a run that
    goes on may draw it from then on, or no more."""
    height = text_height(instruction, frame.width)
    if height >= frame.height:
        return 0
    band = np.asarray(frame.convert("L"))[-height:]
    return height if max(band[1:MARGIN].max(), band[1 - MARGIN :].max()) < DARK < band.max() else 0


def strip_figure(row: dict, strip: Strip, video: Path, page: Path, label: str = "") -> Html:
    """A strip with what is told of its episode; ``label`` comes first."""
    where = f"{row['suite']}, task {row['task_id']}, trial {row['trial_id']}"
    when = {"train": f"training, step {row['step']}", "val": f"validation after step {row['step']}"}.get(
        row["split"], "evaluation"
    )
    end = f"success after {row['steps']} steps" if row["success"] else f"failure, {row['steps']} steps"
    if row["drop_reason"]:
        end += f" ({row['drop_reason']})"
    reward = "" if row["reward"] is None else f"; reward {row['reward']:.2f}"
    encoded = base64.b64encode(strip.content).decode()
    image = tag(
        "div",
        tag("i"),
        tag("i"),  # each shows one half of the strip, so that they can stand below each other on a phone
        class_="frames",
        role="img",
        aria_label=f"{FRAMES} frames of an episode: {row['instruction']}; {end}",
        style=f"--strip:url(data:image/webp;base64,{encoded});--aspect:{number(strip.aspect)}",
    )
    link = tag("a", "video", href=quote(os.path.relpath(video, page.parent)))
    first = tag("em", label, class_="label") if label else None
    told = tag("span", f"{where}; {when}; {end}{reward}; ", link)
    caption = tag("figcaption", first, tag("b", row["instruction"]), told)
    return tag("figure", image, caption, class_="strip")
