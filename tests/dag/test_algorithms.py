"""Whole runs of every estimator, in one process with a simulator that costs nothing: what they log, and that they resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from siirl.client.main_dag import main
from siirl.config.schema import Config
from siirl.dag.pipelines import estimate_advantages
from siirl.data.trajectory import Episode, EpisodeSpec, EpisodeSummary
from siirl.policies.openvla_oft import OpenVLAOFT
from tests.workers.runs import ENV, EXACT, GENTLE, INLINE, TOY, assert_same_weights, command_line, log_of, weights_of

pytestmark = pytest.mark.usefixtures("toy")

ACTOR = "actor_rollout_ref.actor"
PPO = {"algorithm.adv_estimator": "gae", "algorithm.gamma": 0.9, "algorithm.lam": 0.95, "critic.use_critic_model": True}
OF_ACTIONS = {"algorithm.reward_type": "action_level", "algorithm.logprob_type": "action_level"}
DOCUMENTED = {
    *("actor/loss", "actor/value_loss", "actor/entropy", "actor/grad_norm", "actor/lr"),
    *("rollout/reward_mean", "rollout/reward_std", "rollout/episode_length", "rollout/success_rate"),
    *("env/success_rate", "env/step_reward", "env/termination_rate"),
}
"""Metrics that other trainers' documents name."""


def run(folder: Path, policy: Path, *settings: dict[str, Any]) -> list[dict[str, float]]:
    """Two steps; the lines that they logged."""
    assert main(command_line(folder, policy, TOY, EXACT, INLINE, *settings)) == 0
    return log_of(folder)


@pytest.mark.parametrize("estimator", ["grpo", "dr_grpo", "rloo", "reinforce_plus_plus"])
def test_estimators_of_whole_episodes_train(tmp_path: Path, policy: Path, estimator: str) -> None:
    rows = run(tmp_path, policy, {"algorithm.adv_estimator": estimator})
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["actor/optimizer_steps"] == 2 and "actor/value_loss" not in row for row in rows)


@pytest.mark.parametrize(
    "settings", [PPO, PPO | OF_ACTIONS, PPO | {"algorithm.reward": "env"}], ids=["", "actions", "env"]
)
def test_ppo_trains_policy_and_values(tmp_path: Path, policy: Path, settings: dict[str, Any]) -> None:
    rows = run(tmp_path, policy, settings, {"actor_rollout_ref.rollout.n": 1, "data.train_batch_size": 4})
    assert rows[-1].keys() >= DOCUMENTED
    for row in rows:
        assert row["actor/rollout_train_logprob_diff"] < 1e-4
        assert 0 <= row["actor/clip_fraction"] <= 1
        assert 0 <= row["actor/value_clip_fraction"] <= 1
        assert row["actor/value_loss"] >= 0
        assert row["critic/explained_variance"] <= 1
    one, two = weights_of(tmp_path, 1), weights_of(tmp_path, 2)
    head = [name for name in one if "value_head" in name]
    assert head
    if settings.get("algorithm.reward") != "env":  # this simulator pays nothing
        assert any((one[name] != two[name]).any() for name in head)


@pytest.mark.parametrize(("reward", "valued"), [("sparse", True), ("srpo", False)])
def test_last_observations_are_valued_only_where_something_is_to_come(
    tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch, reward: str, valued: bool
) -> None:
    rows: list[int] = []
    value = OpenVLAOFT.value
    monkeypatch.setattr(OpenVLAOFT, "value", lambda self, x: (rows.append(len(x["images"])), value(self, x))[1])
    cut_off = {f"{ENV}.max_steps": 8, "trainer.total_training_steps": 1}
    pixels = {"algorithm.reward": reward, "actor_rollout_ref.embodied.video_encoder": "pixels"}
    (row,) = run(tmp_path, policy, PPO, cut_off, pixels)
    assert sum(rows) == round(4 * (1 - row["env/termination_rate"])) * valued
    assert row["env/termination_rate"] < 1


@pytest.mark.parametrize("settings", [{}, PPO, PPO | OF_ACTIONS], ids=["grpo", "ppo", "ppo, actions"])
def test_of_a_chunk_the_first_actions_may_be_executed_alone(
    tmp_path: Path, policy: Path, settings: dict[str, Any]
) -> None:
    horizon = {"actor_rollout_ref.embodied.num_executed_actions": 3, f"{ENV}.max_steps": 10}
    rows = run(tmp_path, policy, settings, horizon)
    assert all(row["actor/rollout_train_logprob_diff"] < 1e-4 for row in rows)
    assert all(row["actor/optimizer_steps"] == 2 for row in rows)
    assert all(0 < row["rollout/episode_length"] <= 10 for row in rows)


def test_documented_metrics_appear_in_tensorboard(tmp_path: Path, policy: Path) -> None:
    run(tmp_path, policy, PPO, {"trainer.logger": "[tensorboard]", "trainer.tensorboard_dir": tmp_path / "events"})
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= DOCUMENTED


def test_a_resumed_ppo_run_is_the_uninterrupted_one(tmp_path: Path, policy: Path) -> None:
    """The value head and its moments are in the checkpoint."""
    run(tmp_path / "whole", policy, PPO)
    run(tmp_path / "parts", policy, PPO, {"trainer.total_training_steps": 1})
    run(tmp_path / "parts", policy, PPO)
    assert_same_weights(weights_of(tmp_path / "parts", 2), weights_of(tmp_path / "whole", 2))


def test_a_penalty_refers_to_the_policy_that_training_started_from(tmp_path: Path, policy: Path) -> None:
    held = {f"{ACTOR}.kl_loss_coef": 0.5, "actor_rollout_ref.ref.path": policy}
    first, second = run(tmp_path, policy, held, GENTLE)
    assert first["actor/kl_loss"] < second["actor/kl_loss"]
    assert first["actor/kl_loss"] >= 0


@pytest.mark.parametrize(("reward", "more"), [("srpo", False), ("sparse", True), ("env", True)])
def test_a_reward_that_judges_the_whole_leaves_nothing_to_come(reward: str, more: bool) -> None:
    """Else what a failure scored would be paid again in every update, on top of the value that it taught."""
    config = Config()
    config.algorithm.reward, config.algorithm.adv_estimator, config.algorithm.normalize_advantages = (
        reward,
        "gae",
        False,
    )
    config.actor_rollout_ref.embodied.action_chunks_len = 2
    spec = EpisodeSpec("toy", 0, 0, "", 3, 0, 0, 0, 0)
    rewards = np.float32([[0, 0], [0.5, 0]]) if reward == "env" else None
    values = np.float32([[0.2], [0.3], [0.9]])
    summary = EpisodeSummary(spec, False, 3, 2, truncated=True, policy_version=0, rewards=rewards, values=values)
    episode = Episode(summary, None, {"reward": 0.5})
    columns = estimate_advantages([episode], config).columns
    np.testing.assert_allclose(columns["return"][0], 0.5 + 0.9 * more, rtol=1e-6)
