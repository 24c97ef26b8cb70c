"""Evaluations as a user meets them: every episode once, whatever happens on the way, and numbers that say what they are of."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from siirl.client import export, main_dag
from siirl.client.evaluate import main
from siirl.data.files import write_atomically
from siirl.observe import episodes
from siirl.observe.episodes import EpisodeLog, EpisodeRow
from siirl.observe.metrics import wilson_interval
from tests.client.evaluations import arguments, evaluate, rows
from tests.policies.tiny import tiny_policy_folder
from tests.workers.runs import ENV, log_of
from tests.workers.toy import plan_fault

pytestmark = pytest.mark.usefixtures("toy")


def content(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(toy: Path, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, four trials, twice."""
    folder = tmp_path_factory.mktemp("undisturbed")
    evaluate(folder, policy, {"evaluate.rollout_epoch": 2})
    return folder


def test_every_task_trial_and_repetition_is_run_once(undisturbed: Path) -> None:
    found = rows(undisturbed)
    assert sorted((row.task_id, row.trial_id, row.index) for row in found) == [
        (task, trial, repetition) for task in (0, 1) for trial in range(4) for repetition in range(2)
    ]
    assert len({row.env_seed for row in found}) == len({row.action_seed for row in found}) == 16
    assert {(row.step, row.split, row.suite) for row in found} == {(0, "eval", "toy")}
    assert sorted(path.name for path in undisturbed.glob("[!.]*")) == [
        "config.yaml",
        "episodes.parquet",
        "journal.jsonl",
        "results.json",
    ]


def test_results_tell_success_per_task_and_suite_with_intervals(undisturbed: Path) -> None:
    found, said = rows(undisturbed), content(undisturbed)
    successes = Counter(row.task_id for row in found if row.success)
    (suite,) = said["suites"]
    assert [(t["task_id"], t["successes"], t["episodes"]) for t in suite["tasks"]] == [
        (i, successes[i], 8) for i in (0, 1)
    ]
    total = said["total"]
    assert (total["successes"], total["episodes"]) == (successes.total(), 16)
    assert (total["low"], total["high"]) == wilson_interval(successes.total(), 16)
    assert total["steps"] == pytest.approx(sum(row.steps for row in found) / 16)
    assert 0 < successes.total() < 16, "else the test says little"
    assert (said["complete"], said["mode"], said["settings"]["evaluate.temperature"]) == (True, "sampled", 1.0)
    assert said["settings"]["evaluate.suites"] == {"toy": "libero_spatial"}


def test_the_table_is_printed(undisturbed: Path, policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also by a second start, which has nothing left to do."""
    before = (undisturbed / "results.json").read_bytes()
    assert main(arguments(undisturbed, policy, {"evaluate.rollout_epoch": 2})) == 0
    out = capsys.readouterr().out
    total = content(undisturbed)["total"]
    assert f"{total['successes']}/16" in out
    assert f"{100 * total['low']:.1f}–{100 * total['high']:.1f}" in out
    assert "16 of them are there already" in out
    assert "sampled at temperature 1" in out
    assert (undisturbed / "results.json").read_bytes() == before


def test_an_evaluation_that_crashed_goes_on_and_ends_alike(
    undisturbed: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = EpisodeLog.add
    ran: list[EpisodeRow] = []

    def crashing(self: EpisodeLog, row: EpisodeRow) -> None:
        if len(ran) in (5, 11) and ran[-1] != "crashed":
            ran.append("crashed")  # type: ignore[arg-type]
            raise ArithmeticError("the power is gone")
        ran.append(row)
        add(self, row)

    monkeypatch.setattr(EpisodeLog, "add", crashing)
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            main(arguments(tmp_path, policy, {"evaluate.rollout_epoch": 2}))
        assert content(tmp_path)["complete"] is False
    assert main(arguments(tmp_path, policy, {"evaluate.rollout_epoch": 2})) == 0
    again = Counter((row.task_id, row.trial_id, row.index) for row in ran if row != "crashed")
    assert set(again.values()) == {1}, "no finished episode was run again"
    assert (tmp_path / "results.json").read_bytes() == (undisturbed / "results.json").read_bytes()


def test_a_killed_process_loses_no_finished_episode(undisturbed: Path, policy: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys, tests.workers.toy\n"
        "from siirl.client.evaluate import main\nfrom siirl.observe.episodes import EpisodeLog\n"
        "add, count = EpisodeLog.add, []\n"
        "def killed(self, row):\n    add(self, row); count.append(row)\n    len(count) == 7 and os.kill(os.getpid(), 9)\n"
        "EpisodeLog.add = killed\nsys.exit(main(sys.argv[1:]))"
    )
    argv = arguments(tmp_path, policy, {"evaluate.rollout_epoch": 2})
    assert subprocess.run([sys.executable, "-c", program, *argv], env=os.environ).returncode == -9
    assert len(rows(tmp_path)) == 7
    assert main(argv) == 0
    assert (tmp_path / "results.json").read_bytes() == (undisturbed / "results.json").read_bytes()


CHANGED = {
    "sampling": ({"evaluate.do_sample": "false"}, ["evaluate.do_sample=false: allowed: true, as in the evaluation in"]),
    "trials": ({f"{ENV}.num_trials_per_task": 3}, [f"{ENV}.num_trials_per_task=3: allowed: 4, as in"]),
    "suites": ({"evaluate.suites": "[toy,toy_slow]"}, ["evaluate.suites={toy:", "{toy: libero_spatial}, as in"]),
    "two things": (
        {"trainer.seed": 3, "evaluate.rollout_epoch": 1},
        ["2 problems", "trainer.seed=3", "rollout_epoch=1"],
    ),
}


def test_a_setting_that_an_earlier_version_did_not_note_is_not_held_against_it(
    undisturbed: Path, policy: Path, tmp_path: Path
) -> None:
    earlier = Path(shutil.copytree(undisturbed, tmp_path / "earlier"))
    noted = content(earlier)
    del noted["settings"]["actor_rollout_ref.model.action_noise.max_std"]
    (earlier / "results.json").write_text(json.dumps(noted))
    assert main(arguments(earlier, policy, {"evaluate.rollout_epoch": 2})) == 0
    assert (earlier / "results.json").read_bytes() == (undisturbed / "results.json").read_bytes()


@pytest.mark.parametrize(("settings", "parts"), CHANGED.values(), ids=CHANGED)
def test_other_settings_are_refused_by_name(
    undisturbed: Path, policy: Path, capsys: pytest.CaptureFixture[str], settings: dict, parts: list[str]
) -> None:
    assert main(arguments(undisturbed, policy, {"evaluate.rollout_epoch": 2}, settings)) == 2
    error = capsys.readouterr().err
    for part in [*parts, "name another evaluate.folder"]:
        assert part in error


def test_other_weights_are_refused(
    undisturbed: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny_policy_folder(tmp_path, seed=9)
    assert main(arguments(undisturbed, other, {"evaluate.rollout_epoch": 2})) == 2
    assert f"evaluate.policy={other}: allowed: the weights that the evaluation in" in capsys.readouterr().err


def test_statistics_follow_the_suites(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the base for a perturbed suite; never those of another suite; those of a mixture for all."""
    libero = {f"{ENV}.env_type": "libero", f"{ENV}.max_steps": 40, f"{ENV}.image_size": 64, "dry_run": "true"}
    suites = {"evaluate.suites": "[libero_spatial,libero_spatial_lan]"}
    assert main(arguments(tmp_path / "out", policy, libero, suites)) == 0
    out = capsys.readouterr().out
    assert "libero_spatial_lan, actions by the statistics of libero_spatial\n" in out
    assert "episodes     16 (" in out
    assert (
        main(arguments(tmp_path / "out", policy, libero, {"evaluate.suites": "[libero_spatial,libero_goal_swap]"})) == 2
    )
    assert "unnorm_key 'libero_goal' is not in the checkpoint's dataset statistics" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path / "out", policy, {"dry_run": "true", f"{ENV}.num_envs": 1})) == 0
    out = capsys.readouterr().out
    assert "episodes     8 (all trials, 1 episode each)" in out
    assert "slot 0" in out
    assert not (tmp_path / "out").exists()


def test_dropped_episodes_count_as_failures_and_are_told(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_fault(2, 8, "nan")
    evaluate(tmp_path, policy, {f"{ENV}.task_ids": "[0]"})
    assert content(tmp_path)["total"]["dropped"] == {"nan_observation": 1}
    assert "1 of 4 episodes were dropped and count as failures: 1 nan_observation" in capsys.readouterr().out


def test_several_suites_share_one_table(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(tmp_path, policy, {"evaluate.suites": "[toy,toy_slow]", f"{ENV}.num_trials_per_task": 2})
    assert Counter(row.suite for row in found) == {"toy": 4, "toy_slow": 4}
    assert [suite["suite"] for suite in content(tmp_path)["suites"]] == ["toy", "toy_slow"]
    assert "all 2 suites" in capsys.readouterr().out
    seeds = [{row.env_seed for row in found if row.suite == suite} for suite in ("toy", "toy_slow")]
    assert seeds[0] == seeds[1], "the same trials, so that a perturbed suite can be seen beside its base"


def test_held_out_trials_alone_are_those_of_validation(run: Path, tmp_path: Path) -> None:
    """Of a run's newest checkpoint, with the settings of the run: 1 of 6 trials was held out."""
    inline = {"trainer.logger": "[]", "evaluate.split": "holdout"}
    argv = [str(run), f"evaluate.folder={tmp_path / 'out'}", *(f"{key}={value}" for key, value in inline.items())]
    assert main(argv) == 0
    (row,) = rows(tmp_path / "out")
    assert (row.trial_id, content(tmp_path / "out")["step"]) == (5, 2)
    validated = tmp_path / "validated"
    assert export.main([str(run), str(tmp_path / "policy")]) == 0
    settings = (run / "config.yaml").read_text().replace(str(run), str(validated))
    (tmp_path / "config.yaml").write_text(settings)
    only = ["trainer.val_only=true", f"actor_rollout_ref.model.path={tmp_path / 'policy'}"]
    assert main_dag.main([f"--config-dir={tmp_path}", "--config-name=config", *only]) == 0
    assert log_of(validated)[0]["val/success_rate"] == row.success
    assert not (tmp_path / "out" / "policy").exists()


def test_a_checkpoint_acts_as_its_exported_policy(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "global_step_1"
    more = {f"{ENV}.task_ids": "[0]", "trainer.logger": "[]", "evaluate.do_sample": "true"}
    settings = [f"{key}={value}" for key, value in more.items()]
    assert main([str(checkpoint), f"evaluate.folder={tmp_path / 'a'}", *settings]) == 0
    assert export.main([str(run), str(tmp_path / "policy"), "--step=1"]) == 0
    folders = [f"--config-dir={run}", "--config-name=config"]
    assert main([str(tmp_path / "policy"), f"evaluate.folder={tmp_path / 'b'}", *folders, *settings]) == 0
    assert content(tmp_path / "a")["suites"] == content(tmp_path / "b")["suites"]
    assert content(tmp_path / "a")["step"] == 1


def test_a_run_that_has_saved_no_checkpoint_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    assert main([str(tmp_path / "run"), f"evaluate.folder={tmp_path / 'out'}"]) == 2
    assert "a run that has saved no checkpoint; run its command again" in capsys.readouterr().err


def test_a_broken_checkpoint_is_refused(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "global_step_1" / "trainer_state.json").write_text("{}")
    assert main([str(copy / "global_step_1"), f"evaluate.folder={tmp_path / 'out'}"]) == 2
    assert "is a broken checkpoint: trainer_state.json does not have the SHA-256 sum" in capsys.readouterr().err


def test_episodes_that_a_full_disk_refuses_are_told(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(file: Path, write: object) -> None:
        if "part-" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(file, write)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(episodes, "write_atomically", full)
        assert main(arguments(tmp_path, policy)) == 1
    assert "not every episode could be written" in capsys.readouterr().err
    assert content(tmp_path)["complete"] is False
    assert len(evaluate(tmp_path, policy)) == 8


@pytest.mark.usefixtures("ray_cluster")
def test_several_slots_share_the_episodes_and_lose_none_when_a_simulator_dies(policy: Path, tmp_path: Path) -> None:
    plan_fault(1, 8, "exit")
    slots = {"trainer.backend": "ray", f"{ENV}.num_envs": 2, "cluster.num_cpu_slots_per_node": 2}
    found = evaluate(tmp_path, policy, slots)
    assert sorted((row.task_id, row.trial_id) for row in found) == [
        (task, trial) for task in (0, 1) for trial in range(4)
    ]
    assert sum(row.retries for row in found) == 1


def test_videos_of_an_evaluation_that_was_killed_are_those_of_one_run(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filmed = {f"{ENV}.val_video_cfg.save_video": "true", f"{ENV}.val_video_cfg.max_per_task": 1}
    evaluate(tmp_path / "whole", policy, filmed)
    add = EpisodeLog.add

    def crashing(self: EpisodeLog, row: EpisodeRow) -> None:
        add(self, row)
        if row.task_id == 1:
            raise ArithmeticError("the power is gone")

    with monkeypatch.context() as crash:
        crash.setattr(EpisodeLog, "add", crashing)
        with pytest.raises(ArithmeticError):
            main(arguments(tmp_path / "parts", policy, filmed))
    assert main(arguments(tmp_path / "parts", policy, filmed)) == 0
    whole, parts = (
        sorted(str(file.relative_to(tmp_path / name)) for file in (tmp_path / name).rglob("*.mp4"))
        for name in ("whole", "parts")
    )
    assert whole == parts
    assert len(whole) == 2
    assert set(whole) <= {row.video for row in rows(tmp_path / "parts")}
