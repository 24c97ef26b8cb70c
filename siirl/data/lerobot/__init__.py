"""Demonstrations on disk, as LeRobotDataset v3.0 folders: the layout that the LeRobot library reads and writes.

    meta/info.json                                     version, frames per second, features, totals
    meta/stats.json                                    statistics of every feature over all episodes
    meta/tasks.parquet                                 instruction ↔ task_index
    meta/episodes/chunk-000/file-000.parquet           one row per episode: where its rows and frames are
    data/chunk-000/file-000.parquet                    one row per step, of many episodes
    videos/<feature>/chunk-000/file-000.mp4            the frames of many episodes, one after another

The format is described at https://huggingface.co/docs/lerobot/lerobot-dataset-v3. `read` reads a folder whoever wrote it,
`DatasetWriter` writes one; nothing of LeRobot needs to be installed.
"""

from siirl.data.lerobot.layout import Columns
from siirl.data.lerobot.reader import Demo, Demonstrations, read
from siirl.data.lerobot.writer import DatasetWriter, Episode, Shard, ShardWriter

__all__ = ["Columns", "DatasetWriter", "Demo", "Demonstrations", "Episode", "Shard", "ShardWriter", "read"]
