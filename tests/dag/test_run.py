"""The loop in one process: skipped steps, refills, NaN from the simulator, validation, what each step logs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siirl.client.main_dag import main
from siirl.envs.base import EnvObs
from siirl.envs.libero.simulator import Simulator
from siirl.policies.base import ActionChunk, PolicyInputs, Sampling
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.policies.tiny import tiny_l1, tiny_openvla_folder
from tests.workers.runs import BY_SEED, ENV, EXACT, INLINE, TOY, command_line, log_of, weights_of
from tests.workers.toy import plan_fault

IMPOSSIBLE = {
    "algorithm.embodied_sampling.filter_accuracy": "true",
    "algorithm.embodied_sampling.accuracy_lower_bound": 0.5,
    "algorithm.embodied_sampling.accuracy_upper_bound": 0.5,
    f"{ENV}.max_steps": 8,  # too short to get anywhere: every group has accuracy 0
}


def train(folder: Path, policy: Path, *settings: dict) -> list[dict[str, float]]:
    assert main(command_line(folder, policy, TOY, EXACT, INLINE, *settings)) == 0
    return log_of(folder)


def test_a_step_without_a_surviving_group_is_skipped_counted_and_told(
    toy: Path, policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.workers.toy.GOAL", 100.0)
    rows = train(tmp_path, policy, IMPOSSIBLE, {"algorithm.filter_groups.max_num_gen_batches": 2})
    assert [row["train/skipped_steps"] for row in rows] == [1, 2]
    for row in rows:
        assert row["filter/gen_batches"] == 2
        assert row["filter/acceptance_rate"] == 0
        assert row["filter/dropped_accuracy_low"] == 4
        assert row["rollout/success_rate"] == 0
        assert "actor/loss" not in row
        assert "rollout/reward_mean" not in row
    assert "step 2: no group survived the filter; no update" in caplog.text
    before, after = weights_of(tmp_path, 1), weights_of(tmp_path, 2)
    assert all(before[name].equal(after[name]) for name in before)


def test_training_and_validation_sample_as_the_config_says(
    toy: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[Sampling] = set()
    act = OpenVLAOFT.act

    def noting(self: OpenVLAOFT, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        seen.add(replace(sampling, seeds=()))
        return act(self, inputs, sampling)

    monkeypatch.setattr(OpenVLAOFT, "act", noting)
    how = {"do_sample": "true", "temperature": 0.7, "top_k": 5, "top_p": 0.9}
    validation = {f"actor_rollout_ref.rollout.val_kwargs.{name}": value for name, value in how.items()}
    training = {"actor_rollout_ref.rollout.top_k": 9, "actor_rollout_ref.rollout.top_p": 0.8}
    once = {"trainer.total_training_steps": 1, "trainer.val_before_train": "true"}
    (row,) = [row for row in train(tmp_path, policy, BY_SEED, training, validation, once) if "actor/loss" in row]
    assert seen == {Sampling(True, 1.0, (), 9, 0.8), Sampling(True, 0.7, (), 5, 0.9)}
    assert row["actor/rollout_train_logprob_diff"] < 1e-5


def test_skipped_steps_are_remembered_by_a_resumed_run(
    toy: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.workers.toy.GOAL", 100.0)
    train(tmp_path, policy, IMPOSSIBLE, {"trainer.total_training_steps": 1})
    assert [row["train/skipped_steps"] for row in train(tmp_path, policy, IMPOSSIBLE)] == [1, 2]


def test_an_episode_with_nan_is_dropped_with_its_reason(toy: Path, policy: Path, tmp_path: Path) -> None:
    everything = {"data.train_batch_size": 5, "trainer.total_training_steps": 1, "actor_rollout_ref.rollout.n": 3}
    fault = plan_fault(2, 8, "nan")
    (row,) = train(tmp_path, policy, everything)
    assert not fault.exists()
    assert row["env/dropped"] == row["env/dropped/nan_observation"] == 1
    assert row["filter/acceptance_rate"] == 1
    assert np.isfinite(list(row.values())).all()
    assert all(tensor.isfinite().all() for tensor in weights_of(tmp_path, 1).values())


def test_nan_from_libero_drops_the_episode(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group of two that it leaves is too small to train; the other group trains."""
    state = Simulator.state
    calls = 0

    def sometimes_nan(self: Simulator) -> np.ndarray:
        nonlocal calls
        calls += 1
        return state(self) if calls != 2 else state(self) * np.nan

    monkeypatch.setattr(Simulator, "state", sometimes_nan)
    settings = (EXACT, INLINE, BY_SEED, {"trainer.total_training_steps": 1})
    assert main(command_line(tmp_path, policy, *settings)) == 0
    (row,) = log_of(tmp_path)
    assert row["env/dropped/nan_observation"] == 1
    assert row["actor/grad_norm"] > 0
    assert all(tensor.isfinite().all() for tensor in weights_of(tmp_path, 1).values())


def test_validation_comes_first_every_few_steps_and_at_the_end(toy: Path, policy: Path, tmp_path: Path) -> None:
    settings = {
        "trainer.val_before_train": "true",
        "trainer.test_freq": 2,
        "trainer.save_freq": -1,
        "trainer.total_training_steps": 3,
        f"{ENV}.num_holdout_trials": 4,
    }
    rows = train(tmp_path, policy, settings)
    assert [row["step"] for row in rows if "val/success_rate" in row] == [0, 2, 3]
    assert all("val/success_rate/toy_0" in row for row in rows if "val/success_rate" in row)
    assert not list(tmp_path.glob("global_step_*"))


def test_pixels_reward_failures_by_their_distance(toy: Path, policy: Path, tmp_path: Path) -> None:
    settings = {"algorithm.reward": "srpo", "data.train_batch_size": 5, "trainer.total_training_steps": 1}
    (row,) = train(tmp_path, policy, settings)
    assert 0 < row["rollout/success_rate"] < 1
    assert row["rollout/reward_mean"] > row["rollout/success_rate"], "failures earn a little"


def test_the_autoregressive_policy_trains_and_validates(toy: Path, tmp_path: Path) -> None:
    settings = {
        "actor_rollout_ref.embodied.embodied_type": "openvla",
        "actor_rollout_ref.embodied.action_chunks_len": 1,
        f"{ENV}.max_steps": 4,
        "trainer.test_freq": 1,
        "trainer.total_training_steps": 1,
    }
    (row,) = train(tmp_path, tiny_openvla_folder(tmp_path), settings, BY_SEED)
    assert row["actor/rollout_train_logprob_diff"] < 1e-5
    assert row["actor/optimizer_steps"] == 2
    assert row["actor/grad_norm"] > 0
    assert "val/success_rate" in row


def test_a_run_can_only_validate_also_what_cannot_be_trained(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_l1(num_images=1).save(str(tmp_path / "policy"))
    settings = {"actor_rollout_ref.embodied.embodied_type": "openvla-oft-l1", f"{ENV}.num_holdout_trials": 2}
    assert main(command_line(tmp_path / "run", tmp_path / "policy", TOY, EXACT, INLINE, settings)) == 2
    assert "this checkpoint regresses actions; it has no distribution to train by RL" in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "nothing was started"
    (row,) = train(tmp_path / "run", tmp_path / "policy", settings, {"trainer.val_only": "true"})
    assert row["step"] == 0
    assert row["val/dropped"] == 0
    assert f"validation success {row['val/success_rate']:.1%}" in capsys.readouterr().out
    assert not list((tmp_path / "run").glob("global_step_*"))


def test_results_of_a_validation_are_never_overwritten(
    toy: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = {"trainer.val_only": "true", f"{ENV}.num_holdout_trials": 6, "data.train_batch_size": 9}
    (row,) = train(tmp_path, policy, only)
    again = command_line(tmp_path, policy, TOY, EXACT, INLINE, only)
    assert main(again) == 2
    assert "a folder without metrics.jsonl" in capsys.readouterr().err
    assert log_of(tmp_path) == [row]
    (tmp_path / "validate.parquet").unlink()  # it held out more than the run that follows
    train(tmp_path, policy, {"trainer.total_training_steps": 1})
    assert log_of(tmp_path / "set_aside_1") == [row]
    assert "val_only: true" in (tmp_path / "set_aside_1" / "config.yaml").read_text()


def test_an_observation_is_never_changed_by_those_who_see_it(toy: Path, policy: Path, tmp_path: Path) -> None:
    """Ray hands out read-only arrays; in one process, the same mistakes must not go unseen."""
    from tests.workers.toy import ToyEnv

    observe = ToyEnv._observe

    def read_only(self: ToyEnv) -> EnvObs:
        obs = observe(self)
        obs.main_images.flags.writeable = obs.states.flags.writeable = False
        return obs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToyEnv, "_observe", read_only)
        train(tmp_path, policy, {"trainer.total_training_steps": 1})
