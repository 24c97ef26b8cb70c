"""The launch scripts: which command they start, and that siirl accepts it."""

import subprocess
from pathlib import Path

import pytest

from siirl.config.keys import KEYS, get_value
from siirl.config.load import load_config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from tests.config.folders import policy_folder

REPOSITORY = Path(__file__).parents[2]
SRPO = REPOSITORY / "examples" / "embodied_srpo_trainer"
EMBODIMENT = REPOSITORY / "examples" / "embodiment" / "run_embodiment.sh"
SHELL = sorted([*(REPOSITORY / "scripts").glob("*.sh"), *(REPOSITORY / "examples").glob("*/*.sh")])
SUITES = ["long", "goal", "object", "spatial"]
DOCUMENTED = (REPOSITORY / "tests" / "golden" / "documented_srpo_command.txt").read_text().splitlines()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HOME_PATH with stand-ins for the models, and a Python that prints its arguments instead of training."""
    for suite in SUITES:
        folder = tmp_path / "models" / "Sylvest" / f"OpenVLA-AC-PD-1traj-libero-{suite}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        policy_folder(tmp_path).rename(folder)
    (tmp_path / "models" / "vjepa2").mkdir()
    (tmp_path / "models" / "vjepa2" / "vitg-384.pt").touch()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    return tmp_path


def run(script: Path, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHON": str(home / "python"), **environment}
    return subprocess.run(
        ["bash", str(script), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def command(script: Path, home: Path, *arguments: str, **environment: str) -> list[str]:
    """The arguments of ``python -m siirl.client.main_dag`` that the script starts."""
    done = run(script, home, *arguments, HOME_PATH=str(home), **environment)
    assert done.returncode == 0, done.stderr
    module, *rest = done.stdout.splitlines()[1:]
    assert module == "siirl.client.main_dag"
    return rest


@pytest.mark.parametrize("script", SHELL, ids=lambda file: file.name)
def test_the_shell_can_read_it(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_has_a_command_that_is_planned(suite: str, home: Path) -> None:
    script = SRPO / f"run_openvla_oft_libero_{suite}.sh"
    name, *overrides = command(script, home, "dry_run=true", PET_NNODES="2")
    assert name == "--config-name=embodied_srpo_trainer"
    config = load_config("embodied_srpo_trainer", overrides)
    embodied = config.actor_rollout_ref.embodied
    assert (embodied.env.env_name, embodied.unnorm_key) == (f"libero_{suite}", f"libero_{suite}")
    assert config.actor_rollout_ref.model.path.endswith(f"OpenVLA-AC-PD-1traj-libero-{suite}")
    assert config.trainer.default_local_dir == f"ckpts/openvla-oft-7b_srpo_libero_{suite}_2nodes"
    assert "slot 15: machine 1, cuda:7" in compile_plan(build_graph(config), config).describe()


def test_the_values_are_the_documented_ones(home: Path) -> None:
    _, *overrides = command(SRPO / "run_openvla_oft_libero_long.sh", home, "dry_run=true")
    values = {
        "model": home / "models/Sylvest/OpenVLA-AC-PD-1traj-libero-long",
        "vjepa2": home / "models/vjepa2/vitg-384.pt",
    }
    documented = [line.format(**values) if "{" in line else line for line in DOCUMENTED]
    ours, theirs = (load_config("embodied_srpo_trainer", given) for given in (overrides, [*documented, "dry_run=true"]))
    different = {key for key in KEYS if get_value(ours, key) != get_value(theirs, key)}
    assert different <= {"data.train_files", "data.val_files", "trainer.default_local_dir"}


def test_variables_and_arguments_change_the_values(home: Path) -> None:
    script = SRPO / "run_openvla_oft_libero_goal.sh"
    _, *overrides = command(
        script, home, "dry_run=true", "data.train_batch_size=32", NUM_ENVS="8", TRAIN_BATCH_SIZE="16"
    )
    config = load_config("embodied_srpo_trainer", overrides)
    assert config.actor_rollout_ref.embodied.env.num_envs == 8
    assert config.data.train_batch_size == 32, "arguments win"


@pytest.mark.parametrize(
    ("gone", "variable"), [("models/Sylvest", "MODEL_PATH"), ("models/vjepa2", "VJEPA_MODEL_PATH")]
)
def test_a_model_that_is_not_there_is_named(home: Path, gone: str, variable: str) -> None:
    (home / gone).rename(home / "elsewhere")
    done = run(SRPO / "run_openvla_oft_libero_spatial.sh", home, HOME_PATH=str(home))
    assert done.returncode == 2
    assert f"{variable}={home / gone}" in done.stderr
    assert "hf download Sylvest/" in done.stderr


def test_a_run_goes_through_the_launcher_and_a_plan_does_not(home: Path) -> None:
    there = {"PET_NNODES": "2", "PET_NODE_RANK": "0"}
    assert "MASTER_ADDR is not set" in run(EMBODIMENT, home, "quickstart", **there).stderr
    assert command(EMBODIMENT, home, "quickstart", "dry_run=true", **there) == [
        "--config-name=quickstart",
        "dry_run=true",
    ]


def test_a_config_is_started_by_its_name(home: Path) -> None:
    assert command(EMBODIMENT, home, "quickstart.yaml", "trainer.seed=1") == [
        "--config-name=quickstart",
        "trainer.seed=1",
    ]


def test_a_config_of_ones_own_is_found_in_its_folder(home: Path) -> None:
    given = ["--config-dir", "mine", "trainer.seed=1"]
    assert command(EMBODIMENT, home, "maniskill_ppo_openvla", *given) == ["--config-name=maniskill_ppo_openvla", *given]


@pytest.mark.parametrize("arguments", [[], ["dry_run=true"]])
def test_a_config_must_be_named(home: Path, arguments: list[str]) -> None:
    done = run(EMBODIMENT, home, *arguments)
    assert done.returncode == 2
    assert "CONFIG is one of: embodied_grpo_trainer embodied_srpo_trainer" in done.stderr
