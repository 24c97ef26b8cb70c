"""Where the videos of a run's episodes go."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from siirl.config.keys import refuse
from siirl.config.schema import Config, VideoConfig

ENV = "actor_rollout_ref.embodied.env"


def video_folder(config: VideoConfig, run_folder: Path, split: str) -> Path:
    """Where a split's videos go. A folder outside the run's may be that of several runs: each has a part of its own, named like
    its run folder and, since those of two runs may have one name, by a digest of where that is."""
    if config.video_base_dir is None:
        return run_folder / "videos" / split
    folder = Path(os.path.abspath(config.video_base_dir))
    if folder.is_relative_to(run_folder):
        return folder
    return folder / f"{run_folder.name}-{hashlib.sha256(str(run_folder).encode()).hexdigest()[:6]}" / split


def check_videos(config: Config) -> Iterator[str]:
    """Training and validation number their steps alike, and so need a folder each."""
    env, run = config.actor_rollout_ref.embodied.env, Path(os.path.abspath(config.trainer.default_local_dir))
    train, val = env.video_cfg, env.val_video_cfg
    if train.save_video and val.save_video and video_folder(train, run, "train") == video_folder(val, run, "val"):
        yield refuse(
            config,
            f"{ENV}.val_video_cfg.video_base_dir",
            f"another folder than that of {ENV}.video_cfg, {video_folder(train, run, 'train')}",
            "leave both out, or give them folders of their own",
        )
