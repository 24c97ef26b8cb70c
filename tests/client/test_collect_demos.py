from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.client.collect_demos import Job, Settings, disturb, main, parse_args, parse_ids, plan_jobs
from siirl.config.schema import EnvConfig
from siirl.data.demos import Demo


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


def test_no_noise_changes_nothing() -> None:
    action = np.linspace(-1, 1, 7, dtype=np.float32)
    ((wanted, disturbed),) = disturb(iter([action]), 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(wanted, disturbed)


def test_only_what_is_missing_is_collected(tmp_path: Path) -> None:
    settings = Settings(EnvConfig(env_name="libero_spatial"), frame_every=3, seed=0, out=tmp_path)
    settings.path(0, 1, 0.1).touch()
    jobs = plan_jobs(settings, tasks=[0, 2], trials=list(range(25)), noises=[0.1])
    assert jobs == [
        Job(0, 0.1, (0, *range(2, 21))),
        Job(0, 0.1, (21, 22, 23, 24)),
        Job(2, 0.1, tuple(range(20))),
        Job(2, 0.1, (20, 21, 22, 23, 24)),
    ]
    for trial in range(25):
        settings.path(0, trial, 0.1).touch()
        settings.path(2, trial, 0.1).touch()
    assert plan_jobs(settings, tasks=[0, 2], trials=list(range(25)), noises=[0.1]) == []


def test_unknown_suite_stops_before_collecting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite", "libero_spatiale", "--out", str(tmp_path / "demos")]) == 2
    assert "unknown LIBERO suite 'libero_spatiale'; allowed: libero_spatial, " in (error := capsys.readouterr().err)
    assert "Did you mean 'libero_spatial'" in error
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--workers", "0", "a whole number ≥ 1"),
        ("--frame-every", "0", "a whole number ≥ 1"),
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


def test_collects_a_real_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "demos"
    command = (
        "--suite libero_spatial --tasks 0 --trials 45 --noise 0.1 --image-size 32 --frame-every 5 --no-antialiasing"
    )
    arguments = [*command.split(), "--max-texture-size", "64", "--out", str(out)]
    assert main(arguments) == 0
    (file,) = out.iterdir()
    assert file.name == "libero_spatial_task0_trial45_noise0.1.npz"
    printed = capsys.readouterr().out
    assert "task 0 noise 0.1 trials 45-45: 1 of 1 solved in 1 episodes | all: 1 saved, 1 of 1 tried" in printed

    demo = Demo.load(file)
    assert (demo.suite, demo.task_id, demo.trial_id) == ("libero_spatial", 0, 45)
    assert demo.instruction.startswith("pick up the black bowl")
    steps = len(demo.actions)
    assert 50 < steps < 220
    assert demo.states.shape == (steps, 8)
    assert demo.actions.shape == (steps, 7)
    assert (np.diff(demo.frame_steps) == 5).all()
    assert demo.frame_steps[0] < 5
    assert demo.frame_steps[-1] >= steps - 5
    assert demo.images.shape == (len(demo.frame_steps), 32, 32, 3)
    assert len(np.unique(demo.images)) > 50
    assert set(demo.actions[:, 6]) == {0.0, 1.0}
    assert demo.actions[0, 6] == 1, "the gripper starts open"
    assert np.abs(demo.actions[:, :6]).max() <= 1

    made = file.stat().st_mtime_ns
    assert main(arguments) == 0
    assert file.stat().st_mtime_ns == made
    assert [f.name for f in out.iterdir()] == [file.name]
