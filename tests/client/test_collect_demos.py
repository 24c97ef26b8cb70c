from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.client import sft
from siirl.client.arguments import parse_ids
from siirl.client.collect_demos import main, parse_args, plan_jobs
from siirl.client.dataset_folder import only_writer
from siirl.data.lerobot import read
from siirl.envs.demonstrations import PARTIAL, Job, disturb, partial_file
from tests.data.lerobot.folders import episode, write
from tests.envs.maniskill.conftest import require_drawing

START = Path(__file__).parents[2] / "examples" / "start_policy"


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_numbers_are_parsed_as_written(numbers: list[int]) -> None:
    assert parse_ids(",".join(map(str, numbers))) == numbers


def test_ranges_include_their_ends() -> None:
    assert parse_ids("0-3,7,9-9") == [0, 1, 2, 3, 7, 9]


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "1.5", "3-1"])
def test_other_ids_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["--out", "x", f"--tasks={text}"])
    assert "argument --tasks: " in (error := capsys.readouterr().err)
    assert "is no number or range; allowed: numbers and ranges such as 0-3,7" in error


def test_noise_is_slow_bounded_and_spares_the_gripper() -> None:
    action = np.array([0, 0, 0, 0, 0, 0.95, 1], np.float32)
    pairs = list(disturb(iter([action] * 4000), 0.2, np.random.default_rng(0)))
    wanted, disturbed = (np.stack(column) for column in zip(*pairs, strict=True))
    assert (wanted == action).all()
    assert (disturbed[:, 6] == 1).all()
    assert disturbed[:, 5].max() == 1
    noise = disturbed[:, :5]
    assert noise.std() == pytest.approx(0.2, rel=0.1)
    assert np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1] == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_pushes_take_the_hand_one_way_for_four_steps_and_spare_the_rest(speed: float) -> None:
    action = np.array([0, 0, 0, 0.5, 0, 0, 1], np.float32)
    pairs = list(disturb(iter([action] * 4000), 0.0, np.random.default_rng(0), pushes=0.1, speed=speed))
    wanted, disturbed = (np.stack(column) for column in zip(*pairs, strict=True))
    assert (wanted == action).all()
    np.testing.assert_array_equal(disturbed[:, 3:], wanted[:, 3:])
    pushed = disturbed[:, :3].any(axis=1)
    assert pushed.mean() == pytest.approx(4 / (4 + 9), abs=0.03)
    ways = disturbed[pushed, :3]
    assert len(np.unique(ways, axis=0)) == -(-len(ways) // 4)
    assert ways.std() == pytest.approx(speed * 3**-0.5, abs=0.03)
    assert np.abs(ways).max() <= speed


@pytest.mark.parametrize("text", ["-0.1", "1.5", "often", "nan"])
def test_pushes_that_are_no_probability_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["--out", "x", f"--pushes={text}"])
    assert f"argument --pushes: '{text}' is not allowed; allowed: a number from 0 to 1" in capsys.readouterr().err


def test_no_noise_changes_nothing() -> None:
    action = np.linspace(-1, 1, 7, dtype=np.float32)
    ((wanted, disturbed),) = disturb(iter([action]), 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(wanted, disturbed)


def test_no_two_processes_write_the_frames_of_a_job_to_one_file(tmp_path: Path) -> None:
    job = Job(0, 0.1, (45, 46))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        files = [partial_file(tmp_path, job), pool.submit(partial_file, tmp_path, job).result()]
    assert files[0] != files[1]
    assert files[0] != partial_file(tmp_path, Job(0, 0.1, (55,)))
    for file in files:
        file.touch()
    assert sorted(tmp_path.glob(PARTIAL.format("*"))) == sorted(files), "a killed collection's would be left"


def test_only_what_is_missing_is_collected() -> None:
    one = {"task_id": 0, "trial_id": 1, "noise": float(np.float32(0.1))}
    jobs = plan_jobs([one], tasks=[0, 2], trials=list(range(14)), noises=[0.1])
    assert jobs == [
        Job(0, 0.1, (0, *range(2, 11))),
        Job(0, 0.1, (11, 12, 13)),
        Job(2, 0.1, tuple(range(10))),
        Job(2, 0.1, (10, 11, 12, 13)),
    ]
    every = [{**one, "task_id": task, "trial_id": trial} for task in (0, 2) for trial in range(14)]
    assert plan_jobs(every, tasks=[0, 2], trials=list(range(14)), noises=[0.1]) == []
    assert len(plan_jobs(every, tasks=[0, 2], trials=list(range(14)), noises=[0.2])) == 4


def test_unknown_suite_stops_before_collecting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite", "libero_spatiale", "--out", str(tmp_path / "demos")]) == 2
    assert "unknown LIBERO suite 'libero_spatiale'; allowed: libero_spatial, " in (error := capsys.readouterr().err)
    assert "Did you mean 'libero_spatial'" in error
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--workers", "0", "a whole number ≥ 1"),
        ("--image-size", "x", "a whole number ≥ 16"),
        ("--noise", "0.1,-0.2", "numbers ≥ 0"),
        ("--noise", "", "numbers ≥ 0"),
    ],
)
def test_arguments_that_cannot_work_are_refused(
    option: str, value: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        parse_args(["--out", "x", f"{option}={value}"])
    assert left.value.code == 2
    assert f"argument {option}: " in (error := capsys.readouterr().err)
    assert part in error


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ["--suite", "libero_goal"],
            "--suite libero_goal: the scripted expert cannot solve it; allowed: libero_spatial",
        ),
        (["--tasks", "0,11"], "no task 11; allowed: 0 to 9"),
        (["--trials", "0,50"], "task 0 of libero_spatial has no trial 50; allowed: 0 to 49"),
    ],
)
def test_what_cannot_be_collected_stops_before_collecting(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "demos")]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "demos").exists()


def test_the_output_must_be_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demos").touch()
    assert main(["--out", str(tmp_path / "demos")]) == 2
    assert f"--out {tmp_path}/demos is a file" in capsys.readouterr().err


def test_folders_that_are_not_ours_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "other", [[episode(0)]])
    before = sorted(tmp_path.rglob("*"))
    assert main(["--out", str(tmp_path / "other")]) == 2
    assert "is not empty and holds no collection of ours" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_only_one_collection_writes_to_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_writer(tmp_path / "demos"):
        assert main(["--out", str(tmp_path / "demos")]) == 2
    assert "another command is writing to it" in capsys.readouterr().err


def test_demonstrations_are_collected_continued_and_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "demos"
    shared = "--suite libero_spatial --tasks 0 --noise 0.1 --image-size 32 --no-antialiasing --max-texture-size 64"
    arguments = [*shared.split(), "--out", str(out)]
    assert main([*arguments, "--trials", "45"]) == 0
    printed = capsys.readouterr().out
    assert "task 0 noise 0.1 trials 45-45: 1 of 1 solved in 1 episodes | all: 1 saved, 1 of 1 tried" in printed

    data = read(out)
    (demo,) = data.demos
    steps = len(demo.actions)
    assert demo.instruction.startswith("pick up the black bowl")
    assert demo.trial == 45
    assert 50 < steps < 220
    assert demo.states.shape == (steps, 8)
    frames = data.frames(demo, range(steps))
    assert frames.shape == (steps, 32, 32, 3)
    assert len(np.unique(frames)) > 50
    assert set(demo.actions[:, 6]) == {-1.0, 1.0}
    assert demo.actions[0, 6] == -1, "the gripper starts open, in LIBERO's sign"
    assert np.abs(demo.actions[:, :6]).max() <= 1

    made = (out / "meta/info.json").stat().st_mtime_ns
    (out / ".partial-123-0-0.1-46.mp4").touch()  # a killed collection leaves such files
    assert main([*arguments, "--trials", "45"]) == 0
    assert (out / "meta/info.json").stat().st_mtime_ns == made
    assert main([*arguments, "--trials", "45", "--seed", "1"]) == 2
    assert "'seed': 0}; now it is {" in capsys.readouterr().err
    assert main([*arguments, "--trials", "44,45"]) == 0
    assert [d.trial for d in read(out).demos] == [45, 44]
    assert sorted(p.name for p in out.iterdir()) == ["data", "meta", "videos"]

    policy = ["--architecture", str(START / "architecture.json"), "--vocabulary", str(START / "vocabulary.txt")]
    train = "--suite libero_spatial --steps 1 --batch-size 2 --log-every 1 --threads 1"
    assert sft.main(["--demos", str(out), *policy, *train.split(), "--out", str(tmp_path / "policy")]) == 0
    assert (tmp_path / "policy" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--suite", "PushCube-v1"], "--suite PushCube-v1: no scripted expert solves it; allowed: PickCube-v1"),
        (["--suite", "PickCub-v1"], "Did you mean 'PickCube-v1'?"),
        (["--tasks", "0,1"], "--tasks: PickCube-v1 has no task 1; allowed: 0 to 0"),
        (["--no-antialiasing"], "--no-antialiasing means nothing with --env maniskill; leave it out"),
        (["--max-texture-size", "64"], "--max-texture-size means nothing with --env maniskill; leave it out"),
    ],
)
def test_what_maniskill_cannot_collect_stops_before_collecting(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siirl.envs.maniskill.check_installed", lambda: None)
    monkeypatch.setattr("siirl.envs.maniskill.demonstrate.check_rendering", lambda env: None)
    assert main(["--env", "maniskill", *arguments, "--out", str(tmp_path / "demos")]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "demos").exists()


def test_libero_has_no_angle_to_choose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--camera-fov", "0.9", "--out", str(tmp_path / "demos")]) == 2
    assert "--camera-fov means nothing with --env libero; leave it out" in capsys.readouterr().err


def test_demonstrations_of_maniskill_are_collected_and_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_drawing()
    out = tmp_path / "demos"
    shared = "--env maniskill --suite PickCube-v1 --noise 0.1 --image-size 32 --camera-fov 0.9 --trials"
    arguments = ["--out", str(out), *shared.split()]
    assert main([*arguments, "7,1001"]) == 0
    assert "2 of 2 solved in 2 episodes | all: 2 saved, 2 of 2 tried" in capsys.readouterr().out
    data = read(out)
    demo = data.demos[0]
    assert [d.trial for d in data.demos] == [7, 1001]
    assert demo.instruction == "pick up the red cube and move it to the green sphere"
    assert demo.states.shape == (len(demo.actions), 8)
    assert set(demo.actions[:, 6]) == {0.0, 1.0}
    assert demo.actions[0, 6] == 1, "the gripper starts open, in the policy's convention"
    assert data.frames(demo, range(len(demo.actions))).shape == (len(demo.actions), 32, 32, 3)
    assert main([*arguments, "7", "--camera-fov", "0.8"]) == 2
    assert "'camera_fov': 0.9, 'seed': 0}; now it is {" in capsys.readouterr().err

    example = Path(__file__).parents[2] / "examples" / "pickcube"
    policy = ["--architecture", str(example / "openvla_oft.json"), "--vocabulary", str(example / "vocabulary.txt")]
    train = "--suite PickCube-v1 --gripper open --steps 1 --batch-size 2 --log-every 1 --threads 1"
    assert sft.main(["--demos", str(out), *policy, *train.split(), "--out", str(tmp_path / "policy")]) == 0
    assert (tmp_path / "policy" / "model.safetensors").is_file()
