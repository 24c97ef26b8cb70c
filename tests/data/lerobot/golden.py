"""Wrote ``tests/golden/lerobot_v3`` with LeRobot 0.4.4 (``pip install lerobot==0.4.4``): a dataset with a video in LeRobot's
default codec (lossy AV1), what LeRobot itself decodes of it, and the same dataset with images.

python tests/data/lerobot/golden.py tests/golden/lerobot_v3
"""

import sys
from pathlib import Path

import numpy as np

FPS = 10
EPISODES = [(5, "open the drawer"), (4, "push the plate"), (6, "open the drawer")]


def picture(episode: int, step: int) -> np.ndarray:
    """A square that sinks with the steps, uint8 [64, 64, 3]."""
    y, x = np.mgrid[0:64, 0:64]
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 40 * episode + 2 * y, 200 - 2 * x, 90
    image[8 + 4 * step : 24 + 4 * step, 20:36] = (230, 40 * episode, 20 * step)
    return image


def state(episode: int, step: int) -> np.ndarray:
    return np.arange(8, dtype=np.float32) + 10 * episode + 0.5 * step


def action(episode: int, step: int) -> np.ndarray:
    return np.array([0.1 * step, -0.1 * episode, 0, 0, 0.2, 0.3, 1 if step > 2 else -1], np.float32)


def write(root: Path, dtype: str) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        "observation.images.image": {"dtype": dtype, "shape": (64, 64, 3), "names": ["height", "width", "channel"]},
        "observation.state": {"dtype": "float32", "shape": (8,), "names": ["state"]},
        "action": {"dtype": "float32", "shape": (7,), "names": ["actions"]},
    }
    video = dtype == "video"
    dataset = LeRobotDataset.create("a/b", fps=FPS, features=features, root=root, robot_type="panda", use_videos=video)
    for episode, (length, task) in enumerate(EPISODES):
        for step in range(length):
            dataset.add_frame(
                {
                    "observation.images.image": picture(episode, step),
                    "observation.state": state(episode, step),
                    "action": action(episode, step),
                    "task": task,
                }
            )
        dataset.save_episode()
    dataset.finalize()


def blocks(frames: np.ndarray) -> np.ndarray:
    """Means of 8 × 8 pixels, float [F, 64, 64, 3] → [F, 8, 8, 3]."""
    return frames.reshape(-1, 8, 8, 8, 8, 3).mean((2, 4))


def decode(root: Path) -> np.ndarray:
    """The `blocks` of what LeRobot decodes, uint8 [F, 8, 8, 3]."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("a/b", root=root, video_backend="pyav")
    frames = np.stack([dataset[i]["observation.images.image"].permute(1, 2, 0).numpy() for i in range(len(dataset))])
    return blocks(255 * frames).round().astype(np.uint8)


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "video", "video")
    np.save(Path(sys.argv[1]) / "video_blocks.npy", decode(Path(sys.argv[1]) / "video"))
    write(Path(sys.argv[1]) / "images", "image")
