"""Videos of whole runs with a simulator that costs nothing, on every placement."""

from pathlib import Path

import pytest

from siirl.client.main_dag import main
from tests.observe.video.films import decode
from tests.workers.runs import ENV, EXACT, INLINE, TOY, command_line

FILMED = {
    f"{ENV}.task_ids": "[0,1]",
    f"{ENV}.video_cfg.save_video": "true",
    f"{ENV}.val_video_cfg.save_video": "true",
    f"{ENV}.val_video_cfg.info_on_video": "true",
    f"{ENV}.val_video_cfg.max_per_task": 1,
    "actor_rollout_ref.rollout.n": 4,
    "trainer.test_freq": 1,
    "trainer.val_before_train": "true",
}
TWO_WORKERS = {"cluster.num_cpu_slots_per_node": 2}
AHEAD = TWO_WORKERS | {
    "cluster.component_placement": "{env: 0, rollout: 0, actor: 1}",
    "trainer.max_staleness": 1,
    "trainer.test_freq": -1,
}


def videos(folder: Path) -> dict[str, int]:
    """The number of frames of each."""
    files = sorted((folder / "videos").rglob("*.mp4"))
    return {str(file.relative_to(folder / "videos")): len(decode(file.read_bytes())[0]) for file in files}


@pytest.fixture(scope="module")
def inline(toy: Path, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("inline")
    assert main(command_line(folder, policy, TOY, EXACT, INLINE, FILMED)) == 0
    return videos(folder)


def test_training_and_validation_have_videos_of_each_task_and_step(inline: dict[str, int]) -> None:
    steps = {split: {name.split("/")[1] for name in inline if name.startswith(split)} for split in ("train", "val")}
    assert steps == {
        "train": {"step_000001", "step_000002"},
        "val": {"step_000000", "step_000001", "step_000002"},
    }
    assert sum(name.startswith("val/step_000000") for name in inline) == 2, "one of each task"
    for name, frames in inline.items():
        if name.endswith("failure.mp4"):
            assert frames == 4, "24 steps in chunks of 8, and the last observation"
        else:
            assert name.endswith("success.mp4")
            assert 2 <= frames <= 4


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("more", [{}, TWO_WORKERS], ids=["one worker", "two workers"])
def test_on_ray_they_are_the_same(inline: dict[str, int], more: dict, policy: Path, tmp_path: Path) -> None:
    assert main(command_line(tmp_path, policy, TOY, EXACT, FILMED, {"trainer.total_training_steps": 1}, more)) == 0
    first = {name: frames for name, frames in inline.items() if "step_000002" not in name}
    found = videos(tmp_path)
    assert {n: f for n, f in found.items() if "val/step_000001" not in n} == {
        n: f for n, f in first.items() if "val/step_000001" not in n
    }, "before the first update everything is exactly the same"
    assert len(found) == len(first)


@pytest.mark.usefixtures("ray_cluster")
def test_rollouts_that_run_ahead_have_videos_too(policy: Path, tmp_path: Path) -> None:
    assert main(command_line(tmp_path, policy, TOY, FILMED, AHEAD, {"trainer.total_training_steps": 3})) == 0
    steps = [name.split("/")[1] for name in videos(tmp_path) if name.startswith("train")]
    assert set(steps) == {"step_000001", "step_000002", "step_000003"}
