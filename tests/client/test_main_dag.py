"""The command line as a user meets it: what it refuses and how, dry runs, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from siirl.client.main_dag import closing_lines, main
from siirl.config.schema import Config
from siirl.dag.run import Outcome
from siirl.training.run_folder import locked
from tests.observe.test_catalog import is_catalogued
from tests.workers.runs import ENV, INLINE, TOY, command_line, log_of
from tests.workers.toy import plan_fault


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """What a refused command line prints to stderr: no traceback, exit code 2."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


WRONG = {
    "unknown key": (
        {"trainer.total_training_step": 3},
        ["trainer.total_training_step=3", "did you mean trainer.total_training_steps?"],
    ),
    "unknown suite": ({f"{ENV}.env_name": "libero_spatail"}, ["libero_spatail", "Did you mean 'libero_spatial'?"]),
    "unknown task": ({f"{ENV}.task_ids": "[10]"}, [f"{ENV}.task_ids=[10]", "0 to 9"]),
    "unknown trial": ({f"{ENV}.num_trials_per_task": 51}, [f"{ENV}.num_trials_per_task=51", "at most 50"]),
    "wrong type": ({"data.train_batch_size": "many"}, ["data.train_batch_size=many", "a whole number"]),
    "group larger than batch": (
        {"actor_rollout_ref.actor.ppo_mini_batch_size": 3},
        ["ppo_mini_batch_size=3", "at most data.train_batch_size=2"],
    ),
    "more prompts than there are": ({"data.train_batch_size": 6}, ["data.train_batch_size=6", "at most 5"]),
    "bounds reversed": (
        {
            "algorithm.embodied_sampling.accuracy_lower_bound": 0.8,
            "algorithm.embodied_sampling.accuracy_upper_bound": 0.2,
        },
        ["accuracy_lower_bound=0.8", "accuracy_upper_bound=0.2"],
    ),
    "unknown choice": ({"trainer.backend": "slurm"}, ["trainer.backend=slurm", "ray", "inline"]),
    "no such checkpoint": (
        {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": "absent/global_step_3"},
        ["trainer.resume_from_path=absent/global_step_3", "resume_mode=auto"],
    ),
    "no such pipeline": ({"dag.custom_pipeline_fn": "tests.nowhere:f"}, ["dag.custom_pipeline_fn='tests.nowhere:f'"]),
    "a slot that is not there": (
        {"cluster.component_placement": "{env: 0-8, rollout: 0, actor: 0}"},
        ["cluster.component_placement.env=0-8", "the 1 that there are; 0-8 names slot 8"],
    ),
}


@pytest.mark.parametrize(("settings", "parts"), WRONG.values(), ids=WRONG)
def test_bad_input_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, settings: dict, parts: list[str]
) -> None:
    error = refused(capsys, command_line(tmp_path, policy, settings))
    for part in parts:
        assert part in error
    assert not list(tmp_path.glob("metrics.jsonl"))


def test_every_problem_is_told_at_once(capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path) -> None:
    settings = {"data.shufle": "true", "algorithm.gamma": 0.9, "trainer.save_freq": 0, f"{ENV}.env_name": "libero_x"}
    error = refused(capsys, command_line(tmp_path, policy, settings))
    assert "4 problems" in error
    for key in ("data.shufle=true", "algorithm.gamma=0.9", "trainer.save_freq=0", "libero_x"):
        assert key in error
    assert "did you mean data.shuffle?" in error


def test_a_policy_folder_without_config_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    error = refused(capsys, command_line(tmp_path / "run", tmp_path / "policy"))
    assert "config.json" in error
    assert f"actor_rollout_ref.model.path={tmp_path / 'policy'}" in error


def test_manifests_and_run_folders_of_another_config_are_refused(
    toy: Path, capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    once = {"trainer.total_training_steps": 1}
    assert main(command_line(tmp_path, policy, TOY, INLINE, once)) == 0
    capsys.readouterr()
    kept = (tmp_path / "config.yaml").read_text()

    other_reward = {"algorithm.reward": "srpo"}
    error = refused(capsys, command_line(tmp_path, policy, TOY, INLINE, other_reward))
    assert "algorithm.reward=srpo: allowed: sparse, as in the run of" in error
    assert "trainer.default_local_dir" in error

    longer = {f"{ENV}.max_steps": 40, "trainer.resume_mode": "disable"}
    error = refused(capsys, command_line(tmp_path, policy, TOY, INLINE, longer))
    assert f"data.train_files={tmp_path}/train.parquet does not match the config" in error
    assert "24" in error
    assert "40" in error
    everything = other_reward | {f"{ENV}.max_steps": 40, "dag.custom_pipeline_fn": "tests.nowhere:f"}
    error = refused(capsys, command_line(tmp_path, policy, TOY, INLINE, everything))
    assert "5 problems" in error
    for part in (
        *("algorithm.reward=srpo: allowed: sparse", "dag.custom_pipeline_fn=tests.nowhere:f: allowed: null"),
        *("'tests.nowhere:f' cannot be imported", f"{tmp_path}/train.parquet", f"{tmp_path}/validate.parquet"),
    ):
        assert part in error
    assert (tmp_path / "config.yaml").read_text() == kept, "a refused run changes nothing"
    assert (tmp_path / "global_step_1").is_dir()


def test_a_run_folder_in_use_is_refused(
    toy: Path, capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    with locked(tmp_path):
        error = refused(capsys, command_line(tmp_path, policy, TOY, INLINE))
    assert f"trainer.default_local_dir={tmp_path}: another process is running there" in error
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.usefixtures("ray_cluster")
def test_accelerators_that_the_cluster_has_not_are_refused(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    error = refused(capsys, command_line(tmp_path, policy, {"trainer.n_gpus_per_node": 1}))
    assert "machine 0 of the Ray cluster" in error
    error = refused(capsys, command_line(tmp_path, policy, INLINE, {"trainer.n_gpus_per_node": 1}))
    assert "trainer.n_gpus_per_node=1" in error


def test_a_dry_run_plans_for_the_declared_cluster(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    declared = {"dry_run": "true", "trainer.nnodes": 2, "trainer.n_gpus_per_node": 8, "algorithm.reward": "srpo"}
    assert main(command_line(tmp_path, policy, declared)) == 0
    plan = capsys.readouterr().out
    for expected in (
        *(
            "workflow",
            "●  embedding  per group    embedding on slots 0-15",
            "●  update     per batch    actor on slots 0-15",
        ),
        *("slot 15: machine 1, cuda:7", "embedding    slots 0-15"),
        *("env          slots 0-15", "GiB"),
    ):
        assert expected in plan
    assert list(tmp_path.iterdir()) == []


def test_help_shows_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "--config-name=quickstart" in capsys.readouterr().out


def as_program(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, which also knows the env ``toy``."""
    code = "import sys, tests.workers.toy; from siirl.client.main_dag import main; sys.exit(main())"
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-c", code, *argv], env=environment, capture_output=True, text=True)


def test_an_error_of_a_worker_is_the_programs_own(toy: Path, policy: Path, tmp_path: Path) -> None:
    fault = plan_fault(0, 8, "error")
    done = as_program(command_line(tmp_path, policy, TOY, INLINE, {"data.train_batch_size": 5}))
    assert not fault.exists(), done.stderr
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.strip().endswith("ArithmeticError: the toy broke")


def test_a_refused_program_exits_with_2(policy: Path, tmp_path: Path) -> None:
    done = as_program(command_line(tmp_path, policy, {"trainer.sed": 1}))
    assert done.returncode == 2
    assert "did you mean trainer.seed?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(0.3, 0.55, "validation success 30.0% → 55.0%"), (0.3, None, "validation success 30.0%"), (None, None, None)],
)
def test_the_last_lines_claim_no_change_that_nobody_measured(
    before: float | None, after: float | None, told: str | None
) -> None:
    lines = closing_lines(Config(), Outcome(0, 6, before, after)).splitlines()
    assert [line for line in lines if "validation" in line] == ([told] if told else [])
    lines = closing_lines(Config(), Outcome(6, 6, before, after)).splitlines()
    earlier = [f"{told} (measured before this start)"] if told else []
    assert [line for line in lines if "validation" in line] == earlier, "nothing was left to do"


def test_the_last_lines_claim_no_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    config = Config()
    config.trainer.default_local_dir = str(tmp_path)
    *_, place, none = closing_lines(config, Outcome(0, 2, None, None)).splitlines()
    assert place == f"metrics.jsonl, config.yaml: {tmp_path}"
    assert "trainer.save_freq" in none
    (tmp_path / "global_step_2").mkdir()
    assert closing_lines(config, Outcome(0, 2, None, None)).splitlines()[-1].startswith("checkpoints, metrics.jsonl")


def test_every_metric_of_a_run_is_in_the_catalog(run: Path) -> None:
    names = {name for row in log_of(run) for name in row} - {"step"}
    assert len(names) > 20
    assert [name for name in sorted(names) if not is_catalogued(name)] == []
