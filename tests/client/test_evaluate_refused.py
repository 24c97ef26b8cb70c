"""What cannot be evaluated is refused by name before anything starts."""

import json
import shutil
from pathlib import Path

import pytest

from siirl.client.evaluate import main
from tests.client.evaluations import arguments
from tests.workers.runs import ENV

pytestmark = pytest.mark.usefixtures("toy")


REFUSED = {
    "no policy": ("/absent", {}, ["evaluate.policy=/absent: allowed: a policy folder, which has a config.json"]),
    "two policies": ("/absent", {"/absent2": ""}, ["one POLICY, and key=value"]),
    "holdout": (None, {"evaluate.split": "holdout"}, ["evaluate.split=holdout", "num_holdout_trials=0"]),
    "greedy temperature": (
        None,
        {"evaluate.do_sample": "false", "evaluate.temperature": 2},
        ["evaluate.temperature=2"],
    ),
    "trials": (None, {f"{ENV}.num_trials_per_task": 13}, [f"{ENV}.num_trials_per_task=13", "at most 12"]),
    "suite twice": (None, {"evaluate.suites": "[toy,toy]"}, ["evaluate.suites=[toy,toy]", "each named once"]),
    "misspelt": (None, {"evaluate.folders": "x"}, ["did you mean evaluate.folder?"]),
}


@pytest.mark.parametrize(("subject", "settings", "parts"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused(
    policy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    subject: str | None,
    settings: dict,
    parts: list[str],
) -> None:
    argv = arguments(tmp_path / "out", Path(subject or policy), settings)
    assert main([text.removesuffix("=") if text.startswith("/absent2") else text for text in argv]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_refused(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").touch()
    assert main(arguments(tmp_path, policy)) == 2
    assert f"evaluate.folder={tmp_path}: allowed: a folder that is empty" in capsys.readouterr().err


def test_suites_that_are_the_same_are_refused(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    libero = {f"{ENV}.env_type": "libero", f"{ENV}.max_steps": 40, f"{ENV}.image_size": 64}
    libero |= {"actor_rollout_ref.embodied.unnorm_key": "tiny_mixture", "evaluate.suites": "[libero_10,libero_long]"}
    (statistics,) = json.loads((policy / "dataset_statistics.json").read_text()).values()
    mixture = Path(shutil.copytree(policy, tmp_path / "mixture"))
    (mixture / "dataset_statistics.json").write_text(json.dumps({"tiny_mixture": statistics}))
    assert main(arguments(tmp_path / "out", mixture, libero, {"dry_run": "true"})) == 2
    assert "evaluate.suites=[libero_10,libero_long]: allowed: each suite once, and two" in capsys.readouterr().err
